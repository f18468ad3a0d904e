// Package vhostuser is the back-end side of QEMU's vhost-user protocol for a
// disk and a network card whose writes QEMU's dirty log sees or not.
//
// The protocol is the one of QEMU's docs/interop/vhost-user.rst, as
// hw/virtio/vhost-user.c speaks it; the devices and the split virtqueue are
// those of virtio 1.2, little-endian. A back-end offers as little as Linux and
// SeaBIOS need: no indirect descriptors, no event index, no packed ring, one
// queue for the disk and a pair for the card.
//
// Messages, descriptors and guest memory are not trusted: what is wrong in
// them ends in an error, and nothing outside the regions that QEMU handed over
// is read or written.
package vhostuser
