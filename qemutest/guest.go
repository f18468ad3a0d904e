package qemutest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"patchgen/initramfs"
	"patchgen/initramfs/protocol"
	"patchgen/qemutest/qmp"
	"patchgen/qemutest/vhostuser"
)

// qemuLimit is for QEMU's start and for each of its answers, which take no time
// worth naming on an idle machine.
const qemuLimit = 20 * time.Second

// guestOptions say what a guest is. A source and its destination differ in name
// and incoming alone.
type guestOptions struct {
	name      string   // "source" or "destination"
	qemu      string   // file name
	more      []string // arguments of it
	accel     string   // "tcg" or "kvm"
	kernel    string   // file name of a bzImage
	initramfs string
	cmdline   []string
	cpus      int
	memory    int64           // bytes
	full      bool            // no page of it is full of zeros when the guest starts
	limit     time.Duration   // of its boot, and of each of its agent's answers
	disk      *vhostuser.Disk // a guest with a disk has a network card, too
	logging   bool            // of the two
	pci       bool            // it has the two PCI devices that package dmatest drives
	bridges   *bridges        // that the two devices are behind; nil for bridges as they always were
	incoming  bool            // wait for a migration, and stay stopped after it
	resets    bool            // the guest may reset itself, and boots anew then
	dies      bool            // that its kernel breaks is no fault of the run
	events    func(qmp.Event) // may be nil
}

// bridges are those of a QEMU that has the hand-shake.
type bridges struct {
	ask  bool // have the block
	poll int  // milliseconds between two looks of the guest at it
}

// args are QEMU's, with the devices or without. Besides the ports of the two devices
// there is a bridge of the other sort, with nothing behind it.
func (b *bridges) args(devices bool) []string {
	option := ""
	if b.ask {
		option = fmt.Sprintf(",page-dirtying=on,page-dirtying-poll=%d", b.poll)
	}
	args := []string{"-global", "ICH9-LPC.disable_s3=0", "-device", "pci-bridge,id=bridge,chassis_nr=3" + option}
	for i := 0; i < len(deviceArgs); i += 2 {
		flag, value := deviceArgs[i], deviceArgs[i+1]
		switch {
		case strings.HasPrefix(value, "pcie-root-port"):
			args = append(args, flag, value+option)
		case devices:
			args = append(args, flag, value)
		}
	}
	return args
}

// A guest is a running QEMU with all that belongs to it. All of it hangs on
// descriptors without names: when this process ends, however it does, nothing
// stays behind.
type guest struct {
	name       string
	ram        *memory
	console    *console
	trace      *trace // what QEMU prints to standard error, and of it
	complaints tail   // what is none of the trace's
	qmp        *qmp.Client
	disk       *vhostuser.Backend
	card       *vhostuser.Card
	begun      time.Time // what the devices count from
	limit      time.Duration

	incoming bool // it is a destination
	logging  bool // its devices are

	agentConn *net.UnixConn
	agent     *protocol.Client

	fail     context.CancelCauseFunc
	process  *os.Process
	ended    chan struct{} // closed when QEMU has ended
	backends sync.WaitGroup
	mu       sync.Mutex
	greeted  bool // QEMU has answered
	stopping bool
}

// inherited are the files that QEMU gets besides the standard ones.
type inherited []*os.File

// add returns the number of the descriptor in QEMU.
func (in *inherited) add(f *os.File) int {
	*in = append(*in, f)
	return 2 + len(*in) // exec.Cmd.ExtraFiles begins at 3
}

// connect makes a connection and returns our end of it, and the number of the
// descriptor in QEMU.
func (in *inherited) connect() (*net.UnixConn, int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("socketpair: %w", err)
	}
	number := in.add(os.NewFile(uintptr(fds[1]), "socket"))
	f := os.NewFile(uintptr(fds[0]), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, -1, err
	}
	return c.(*net.UnixConn), number, nil
}

func (in inherited) close() {
	for _, f := range in {
		f.Close()
	}
}

// A listener is a socket with a name that is no file's. It is for the network
// card, as QEMU takes no connected socket there: net/vhost-user.c wants a chardev
// that passes descriptors, which chardev/char-socket.c says only of one that has
// an address.
type listener struct {
	*net.UnixListener
	name string
}

func listen() (*listener, error) {
	name := "patchgen-" + rand.Text()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "@" + name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &listener{l, name}, nil
}

// accept returns the connection of a process of the group, and no other's.
func (l *listener) accept(ctx context.Context, group int) (*net.UnixConn, error) {
	stop := context.AfterFunc(ctx, func() { l.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		var peer *unix.Ucred
		raw, err := conn.SyscallConn()
		if err == nil {
			err = errors.Join(raw.Control(func(fd uintptr) {
				peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
			}), err)
		}
		if err == nil {
			var of int
			if of, err = unix.Getpgid(int(peer.Pid)); err == nil && of == group {
				return conn, nil
			}
		}
		conn.Close()
	}
}

// startGuest starts QEMU and returns when it answers. The guest's faults cancel
// what fail is of: *CrashError, *QEMUError or *DeviceError. The caller stops
// the guest.
func startGuest(ctx context.Context, fail context.CancelCauseFunc, o guestOptions) (_ *guest, err error) {
	g := &guest{name: o.name, limit: o.limit, incoming: o.incoming, logging: o.logging, fail: fail, ended: make(chan struct{})}
	g.console = &console{tail: tail{max: maxConsole}, broken: g.crashed}
	if o.dies {
		g.console.broken = func(End, string) {}
	}
	g.complaints.max = 64 << 10
	g.trace = newTrace(&g.complaints)
	var files inherited
	defer func() {
		files.close()
		if err != nil {
			g.stop()
			g.free()
		}
	}()
	low := int64(0)
	if o.pci {
		low = lowPCI
	}
	if g.ram, err = newMemory(o.memory, low); err != nil {
		return nil, err
	}
	if o.full && !o.incoming {
		g.ram.fill()
	}
	ram, err := unix.FcntlInt(g.ram.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("fcntl: %w", err)
	}
	w := wires{ram: files.add(os.NewFile(uintptr(ram), "guest memory"))}
	var monitor *net.UnixConn
	if monitor, w.qmp, err = files.connect(); err != nil {
		return nil, err
	}
	defer func() {
		if g.qmp == nil {
			monitor.Close()
		}
	}()
	if g.agentConn, w.agent, err = files.connect(); err != nil {
		return nil, err
	}
	g.agent = protocol.NewClient(g.agentConn)

	g.begun = time.Now()
	var card *listener
	if o.disk != nil {
		var conn *net.UnixConn
		if conn, w.disk, err = files.connect(); err != nil {
			return nil, err
		}
		g.disk = vhostuser.NewDisk(conn, *o.disk, g.device("disk"))
		g.serve(ctx, "disk", g.disk)
		if card, err = listen(); err != nil {
			return nil, err
		}
		defer card.Close()
		w.card = card.name
	}
	if err := g.start(o.qemu, o.args(w), files); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, qemuLimit, &TimeError{"greeting from the " + g.name + "'s QEMU", qemuLimit})
	defer cancel()
	if o.disk != nil {
		conn, err := card.accept(limited, g.process.Pid)
		if err != nil {
			return nil, g.told(limited, err)
		}
		g.card = vhostuser.NewCard(conn, g.device("card"))
		g.serve(ctx, "card", g.card.Backend)
	}
	if g.qmp, err = qmp.New(limited, monitor, o.events); err != nil {
		return nil, g.told(limited, err)
	}
	g.mu.Lock()
	g.greeted = true
	g.mu.Unlock()
	return g, nil
}

// wires are what QEMU is connected by: numbers of descriptors, and the name of
// the card's socket.
type wires struct {
	ram, qmp, agent, disk int
	card                  string
}

// args are QEMU's arguments.
func (o *guestOptions) args(w wires) []string {
	machine := "q35,memory-backend=" + ramBlock
	smp := strconv.Itoa(o.cpus)
	if o.pci {
		machine += fmt.Sprintf(",max-ram-below-4g=%d", lowPCI)
		// TCG makes no atomic instruction atomic for others than its vCPUs, and none
		// at all where there can be but one.
		smp = fmt.Sprintf("cpus=%d,maxcpus=%d", o.cpus, max(o.cpus, 2))
	}
	args := []string{
		"-name", "patchgen-" + o.name, "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", machine, "-accel", o.accel, "-cpu", "max",
		"-smp", smp, "-m", fmt.Sprintf("%dM", o.memory>>20),
		"-object", fmt.Sprintf("memory-backend-file,id=%s,size=%d,mem-path=/dev/fd/%d,share=on", ramBlock, o.memory, w.ram),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-kernel", o.kernel, "-initrd", o.initramfs,
		"-append", strings.Join(append([]string{"console=ttyS0", "panic=-1", "rdinit=" + initramfs.Agent}, o.cmdline...), " "),
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", w.qmp), "-mon", "chardev=qmp,mode=control",
		"-chardev", fmt.Sprintf("socket,id=agent,fd=%d", w.agent),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=" + protocol.Port,
	}
	if o.disk != nil {
		args = append(args,
			"-chardev", fmt.Sprintf("socket,id=disk,fd=%d", w.disk),
			"-chardev", fmt.Sprintf("socket,id=card,path=%s,abstract=on", w.card),
		)
		if o.bridges == nil {
			args = append(args, deviceArgs...)
		}
	}
	if o.bridges != nil {
		args = append(args, o.bridges.args(o.disk != nil)...)
	}
	if o.pci {
		args = append(args, pciArgs...)
	}
	args = append(args, traceArgs...)
	args = append(args, o.more...)
	if !o.resets {
		args = append(args, "-no-reboot")
	}
	if o.incoming {
		args = append(args, "-incoming", "defer", "-S")
	}
	return args
}

// deviceArgs are the two devices that patchgen itself is. Without
// iommu_platform the guest's drivers would go around the DMA API. A device that
// is to be taken out at run time needs a port of its own.
var deviceArgs = []string{
	"-device", "pcie-root-port,id=port1,chassis=1",
	"-device", "vhost-user-blk-pci,id=disk,chardev=disk,bus=port1,num-queues=1" + dma,
	"-device", "pcie-root-port,id=port2,chassis=2",
	"-netdev", "vhost-user,id=net,chardev=card",
	"-device", "virtio-net-pci,id=card,netdev=net,bus=port2,romfile=,mac=" + cardMAC + dma,
}

// pciArgs are two PCI devices for the guest's module to map memory for, and with
// memory of their own. They are parts of QEMU that do nothing by themselves.
var pciArgs = []string{
	"-object", "memory-backend-ram,id=pci0,size=64K,share=on", "-device", "ivshmem-plain,memdev=pci0,master=on",
	"-object", "memory-backend-ram,id=pci1,size=64K,share=on", "-device", "ivshmem-plain,memdev=pci1,master=on",
}

const (
	// ramBlock is how QEMU calls the guest's RAM.
	ramBlock = "ram"
	// lowPCI is how much of it is below 4 GiB where there are the PCI devices, in
	// bytes: the rest is out of reach for a device with 32 address bits.
	lowPCI = 256 << 20

	cardMAC = "52:54:00:00:00:01"
	dma     = ",iommu_platform=on,disable-legacy=on"
)

// start starts the process, which must not outlive this one.
func (g *guest) start(path string, args []string, files []*os.File) error {
	cmd := exec.Command(path, args...)
	cmd.ExtraFiles = files
	cmd.Stdout, cmd.Stderr = g.console, g.trace
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	started := make(chan error)
	go func() {
		// Linux sends the signal when the thread dies that started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		g.gone(err, string(g.complaints.kept))
	}()
	err := <-started
	if errors.Is(err, os.ErrNotExist) {
		return &MissingQEMUError{err}
	}
	if err != nil {
		return &QEMUError{What: "start " + path, Err: err}
	}
	g.process = cmd.Process
	// An assertion of QEMU's must not leave the guest's memory on the disk.
	if err := unix.Prlimit(g.process.Pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("prlimit: %w", err)
	}
	return nil
}

// gone is called when QEMU has ended.
func (g *guest) gone(err error, complaint string) {
	g.mu.Lock()
	expected, greeted := g.stopping, g.greeted
	g.mu.Unlock()
	if !expected {
		if end, why := g.console.fault(); why != "" {
			g.fail(&CrashError{g.name, end, why})
		} else if err == nil && greeted {
			g.fail(&CrashError{g.name, Exited, ""})
		} else {
			if !greeted { // It may be no QEMU at all.
				err = cmp.Or(err, errors.New("exit status 0"))
				said := g.console.Bytes()
				complaint += string(said[max(0, len(said)-4096):])
			}
			e := &QEMUError{"the " + g.name + "'s QEMU ended by itself", err, complaint}
			if g.incoming {
				time.AfterFunc(afterwards, func() { g.fail(e) })
			} else {
				g.fail(e)
			}
		}
	}
	close(g.ended)
}

// afterwards is how long a guest that said on its console that it is broken may
// go on to say why, and how long the end of a destination waits for the news that
// its source has ended, which ends a destination, too.
const afterwards = 500 * time.Millisecond

func (g *guest) crashed(end End, why string) {
	time.AfterFunc(afterwards, func() { g.fail(&CrashError{g.name, end, why}) })
}

// device returns the options of a device.
func (g *guest) device(name string) vhostuser.Options {
	return vhostuser.Options{
		Logging: g.logging,
		Pass:    func() int64 { return g.trace.pass() },
		Broken:  func(err *vhostuser.GuestError) { g.fail(&DeviceError{g.name, name, err}) },
	}
}

func (g *guest) serve(ctx context.Context, device string, b *vhostuser.Backend) {
	g.backends.Go(func() {
		if err := b.Serve(ctx); err != nil && ctx.Err() == nil {
			g.fail(&DeviceError{g.name, device, err})
		}
	})
}

// stop ends QEMU and waits for all that belongs to it, but for the memory and
// what the devices have noted, which stay until free.
func (g *guest) stop() {
	g.mu.Lock()
	g.stopping = true
	g.mu.Unlock()
	if g.process != nil {
		select {
		case <-g.ended:
		default:
			// The group, in case that it is a script which has started QEMU.
			unix.Kill(-g.process.Pid, unix.SIGKILL)
			<-g.ended
		}
	}
	if g.qmp != nil {
		g.qmp.Close()
	}
	if g.agentConn != nil {
		g.agentConn.Close()
	}
	g.backends.Wait()
}

func (g *guest) free() {
	if g.ram != nil {
		g.ram.close()
		g.ram = nil
	}
}

// do runs a QMP command.
func (g *guest) do(ctx context.Context, command string, args, reply any) error {
	limited, cancel := context.WithTimeoutCause(ctx, qemuLimit, &TimeError{"answer to " + command + " from the " + g.name + "'s QEMU", qemuLimit})
	defer cancel()
	if err := g.qmp.Do(limited, command, args, reply); err != nil {
		return g.told(limited, err)
	}
	return nil
}

// told returns the context's cause if there is one, else err. Where QEMU is
// gone, the cause comes a moment later than the error.
func (g *guest) told(ctx context.Context, err error) error {
	if errors.Is(err, qmp.ErrClosed) || g.qmp == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &QEMUError{What: "the " + g.name + "'s QEMU", Err: err}
}

// hello waits for the agent's first words.
func (g *guest) hello(ctx context.Context) (*protocol.Hello, error) {
	var hello *protocol.Hello
	err := g.talk(ctx, "hello", func() (err error) {
		hello, err = g.agent.WaitHello()
		return err
	})
	return hello, err
}

// ask has the agent do something.
func (g *guest) ask(ctx context.Context, op string, args, result any) error {
	return g.talk(ctx, "answer to "+op, func() error { return g.agent.Call(op, args, result) })
}

func (g *guest) talk(ctx context.Context, what string, f func() error) error {
	limited, cancel := context.WithTimeoutCause(ctx, g.limit, &TimeError{what + " from the " + g.name + " guest's agent", g.limit})
	defer cancel()
	stop := context.AfterFunc(limited, func() { g.agentConn.SetDeadline(time.Unix(1, 0)) })
	err := f()
	stop()
	if err == nil {
		return nil
	}
	var op *protocol.OpError
	var nonsense *protocol.FrameError
	if !errors.As(err, &op) && !errors.As(err, &nonsense) {
		// The connection ends with QEMU, whose end tells more.
		select {
		case <-limited.Done():
		case <-time.After(time.Second):
		}
	}
	if limited.Err() != nil {
		return context.Cause(limited)
	}
	return &AgentError{g.name, err}
}

// A console keeps what a guest prints on its serial port, and tells of a kernel
// that says that it is broken.
type console struct {
	mu      sync.Mutex
	tail    tail
	partial []byte
	end     End
	why     string
	broken  func(End, string) // called once
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tail.Write(p)
	c.partial = append(c.partial, p...)
	for {
		i := bytes.IndexByte(c.partial, '\n')
		if i < 0 {
			break
		}
		c.line(c.partial[:i])
		c.partial = c.partial[i+1:]
	}
	// No line of a kernel is that long: printk cuts at 1024 (LOG_LINE_MAX).
	if len(c.partial) > 4096 {
		c.partial = nil
	}
	return len(p), nil
}

func (c *console) line(line []byte) {
	if why := firstLine(panicLine, line); why != "" && (c.why == "" || c.end == Oopsed) {
		first := c.why == ""
		c.end, c.why = Panicked, why
		if first {
			c.broken(Panicked, why)
		}
	} else if why := firstLine(oopsLine, line); why != "" && c.why == "" {
		c.end, c.why = Oopsed, why
		c.broken(Oopsed, why)
	}
}

// fault returns how the kernel said that it is broken, "" if it did not.
func (c *console) fault() (End, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end, c.why
}

// Bytes returns what was printed so far; of very much, the last.
func (c *console) Bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.tail.kept)
}
