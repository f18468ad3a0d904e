// Package qemutest boots kernels under QEMU and reads what their tests report.
package qemutest
