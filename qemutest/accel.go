package qemutest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// kvmLimit is how long a kernel may take to boot on KVM. Where KVM works it takes
// a second; where it only looks as if it did, nothing comes at all.
const kvmLimit = 20 * time.Second

// Accelerator chooses between "kvm" and "tcg" and says why. want is one of them,
// or "auto". KVM will do only if this kernel has booted on it: /dev/kvm can be
// there and run nothing, as in a virtual machine without nesting. The error is
// *NoKVMError if KVM was wanted and won't do, or the context's cause.
func Accelerator(ctx context.Context, want, qemu, kernel, initramfs string) (accel, why string, err error) {
	if want == "tcg" {
		return "tcg", "as wanted", nil
	}
	err = tryKVM(ctx, qemu, kernel, initramfs)
	switch {
	case err == nil:
		return "kvm", "the kernel boots on it", nil
	case ctx.Err() != nil:
		return "", "", context.Cause(ctx)
	case errors.As(err, new(*MissingQEMUError)):
		return "", "", err
	case want == "kvm":
		return "", "", &NoKVMError{err}
	}
	return "tcg", "KVM will not do: " + err.Error(), nil
}

// A NoKVMError says why KVM cannot be used.
type NoKVMError struct{ Err error }

func (e *NoKVMError) Error() string { return "KVM will not do: " + e.Err.Error() }
func (e *NoKVMError) Unwrap() error { return e.Err }

func tryKVM(parent context.Context, qemu, kernel, initramfs string) error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	f.Close()
	ctx, fail := context.WithCancelCause(parent)
	defer fail(nil)
	g, err := startGuest(ctx, fail, guestOptions{
		name: "trial", qemu: qemu, accel: "kvm", kernel: kernel, initramfs: initramfs, cpus: 1, memory: 256 << 20, limit: kvmLimit,
	})
	if err != nil {
		return err
	}
	defer g.free()
	defer g.stop()
	if _, err = g.hello(ctx); err != nil {
		return fmt.Errorf("this kernel does not boot on it: %w", err)
	}
	return nil
}
