// Package qemutest boots kernels under QEMU, reads what their tests report, and
// proves on live migrations whether a page is lost that a device has written.
package qemutest
