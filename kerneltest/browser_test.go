//go:build kernel

package kerneltest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// A tab is one of a real browser.
type tab struct {
	ctx context.Context

	mu     sync.Mutex
	faults []string
}

// openTab starts a browser. In its tab nothing may be asked for that is not on this
// machine's disk or in the page, and nothing may go wrong: the test fails in the end.
func openTab(t *testing.T) *tab {
	t.Helper()
	var browser string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
			break
		}
	}
	if browser == "" {
		t.Fatal("there is no browser to look at the report with: install the package chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &tab{ctx: ctx}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatalf("%s does not start: %v", browser, err)
	}
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, fault := range b.faults {
			t.Errorf("browser: %s", fault)
		}
	})
	return b
}

func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fault := func(format string, args ...any) { b.faults = append(b.faults, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, "file:///") && !strings.HasPrefix(u, "data:") {
			fault("the page asks for %s", u)
		}
	case *network.EventLoadingFailed:
		fault("loading failed: %s", e.ErrorText)
	case *runtime.EventExceptionThrown:
		fault("exception: %+v", e.ExceptionDetails)
	case *runtime.EventConsoleAPICalled:
		fault("console: %s %v", e.Type, e.Args)
	case *log.EventEntryAdded:
		fault("log: %s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
	}
}

// do makes steps, such as clicks.
func (b *tab) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// open opens a file.
func (b *tab) open(t *testing.T, file string) {
	t.Helper()
	b.do(t, chromedp.Navigate((&url.URL{Scheme: "file", Path: file}).String()))
}

// eval returns what the body of a function in the page returns, which may be a promise,
// and which is given the arguments as JSON.
func eval[T any](t *testing.T, b *tab, body string, args ...any) T {
	t.Helper()
	data, err := json.Marshal(append([]any{}, args...))
	if err != nil {
		t.Fatal(err)
	}
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](fmt.Sprintf("(async (...args) => {%s})(...%s)", body, data), chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%v in\n%s", err, body)
	}
	return v
}

// look sets how wide the window is, in CSS pixels, and which colours and medium ("" for
// a screen) the user prefers.
func (b *tab) look(t *testing.T, width int64, scheme, medium string) {
	t.Helper()
	b.do(t, chromedp.EmulateViewport(width, 800))
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Media: medium, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// scripts turns scripts on or off, from the next page on.
func (b *tab) scripts(t *testing.T, on bool) {
	t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on}); err != nil {
		t.Fatal(err)
	}
}

// shoot keeps a picture of the whole page in the folder.
func (b *tab) shoot(t *testing.T, dir, name string) {
	t.Helper()
	data, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	b.keep(t, dir, name+".png", data)
}

// print keeps the page as it is printed on A4.
func (b *tab) print(t *testing.T, dir, name string) {
	t.Helper()
	data, err := chromedp.Run(b.ctx, chromedp.PrintToPDF(chromedp.PDFPaper(chromedp.PaperSize{Width: 8.27, Height: 11.69})))
	if err != nil {
		t.Fatal(err)
	}
	b.keep(t, dir, name+".pdf", data)
}

func (b *tab) keep(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// load reloads and returns when, in milliseconds since the navigation began, something
// was seen first and the page was complete.
func (b *tab) load(t *testing.T, file string) (paint, complete float64) {
	t.Helper()
	if _, err := chromedp.Call(b.ctx, page.Navigate, page.NavigateParams{URL: "about:blank"}); err != nil {
		t.Fatal(err)
	}
	b.open(t, file)
	times := eval[[2]float64](t, b, `
		for (;;) {
			const [paint] = performance.getEntriesByName("first-contentful-paint"), [load] = performance.getEntriesByType("navigation");
			if (paint && load && load.loadEventEnd) return [paint.startTime, load.loadEventEnd];
			await new Promise(f => setTimeout(f, 5));
		}`)
	return times[0], times[1]
}

// Keys for KeyEvent.
const (
	keyLeft  = kb.ArrowLeft
	keyRight = kb.ArrowRight
	keyUp    = kb.ArrowUp
	keyDown  = kb.ArrowDown
	keyHome  = kb.Home
)

// wheelBy is how far the wheel of a mouse is turned, in CSS pixels. The browser wants
// both deltas, and one of 0 is not passed on to it.
func wheelBy(y float64) chromedp.MouseOption {
	return func(p *input.DispatchMouseEventParams) { p.DeltaX, p.DeltaY = 1e-9, y }
}
