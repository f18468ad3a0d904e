// Package progress is how long work says where it is.
package progress

// A Reporter is told how far a piece of long work has come. It may be called
// from the goroutine that does the work only, and must return quickly.
type Reporter interface {
	// Stage begins a named stage, such as "unpack linux-source-6.12".
	// total is the number of units that it will take, or 0 if unknown; unit
	// names one of them ("files"), and is "bytes" for sizes.
	Stage(name string, total int64, unit string)
	// Step says that done units of the current stage are finished.
	Step(done int64)
	// End ends the current stage.
	End()
}

// Nop is a Reporter that tells nobody.
type Nop struct{}

func (Nop) Stage(string, int64, string) {}
func (Nop) Step(int64)                  {}
func (Nop) End()                        {}
