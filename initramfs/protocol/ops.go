package protocol

// The operations, each with what it takes and gives. An operation that fails
// answers with an Error, and the agent goes on.
//
// The buffer is anonymous memory of the agent, locked, in pages of PageSize
// bytes. Page numbers count from its begin.
const (
	// OpHello says again who is there: nothing, Hello.
	OpHello = "hello"
	// OpTouch makes the buffer and has the CPU fill page i with
	// Fill(page, seed, i): TouchArgs, nothing. It can be made once.
	OpTouch = "touch"
	// OpHeartbeat begins to write to pages of a memory of their own, each
	// millisecond, for ever: HeartbeatArgs, nothing. It can be begun once.
	OpHeartbeat = "heartbeat"
	// OpStore has the CPU fill the buffer anew: StoreArgs, nothing.
	OpStore = "store"
	// OpRead has the first virtio block device fill the buffer from its begin
	// by O_DIRECT: ReadArgs, ReadResult. The device is closed afterwards.
	OpRead = "read"
	// OpVerify compares the buffer with what it should hold: VerifyArgs,
	// VerifyResult. It writes nothing to it.
	OpVerify = "verify"
	// OpAddresses tells where the pages are in the guest's physical memory:
	// nothing, AddressesResult.
	OpAddresses = "addresses"
	// OpListen gives the first ethernet interface an address and opens a UDP
	// socket, whose datagrams stay in its queue, in the pages that the device
	// wrote: nothing, ListenResult.
	OpListen = "listen"
	// OpQueued tells what waits in the socket's queue: nothing, QueuedResult.
	OpQueued = "queued"
	// OpDrain takes all datagrams out of the queue: DrainArgs, DrainResult. A
	// datagram is its number, 64 bits in little-endian order, and then
	// Fill(rest, seed, number).
	OpDrain = "drain"
	// OpReader has the first virtio block device fill a memory of its own by O_DIRECT,
	// over and over, for ever: ReaderArgs, nothing. It can be begun once. When the
	// device is unbound it stops, and goes on when that is bound again.
	OpReader = "reader"
	// OpUnbind unbinds the devices of a virtio driver: UnbindArgs, UnbindResult.
	OpUnbind = "unbind"
	// OpBind binds again what OpUnbind has unbound from a driver: BindArgs,
	// BindResult.
	OpBind = "bind"
	// OpMarking switches the kernel's dma_page_dirtying: MarkingArgs, nothing.
	OpMarking = "marking"
	// OpSuspend sends the machine to sleep, to RAM, a moment after the answer: nothing,
	// nothing.
	OpSuspend = "suspend"
	// OpCounters reads the numbers in the kernel's debugfs folder
	// dma_page_dirtying: nothing, a map[string]uint64 by the name of the file.
	OpCounters = "counters"
	// OpLoad loads patchgen's module for the DMA API: LoadArgs, nothing. It can be
	// loaded once.
	OpLoad = "load"
	// OpMap has the module map memory for its devices: MapArgs, MapResult. A Cell
	// that cannot be mapped is no error of the operation.
	OpMap = "map"
	// OpReturn has it give mapped memory back to the CPU: ReturnArgs, nothing. The
	// first that fails ends it. What is unmapped stays as it is, and is not freed.
	OpReturn = "return"
	// OpStress has it sync two parts of a mapping in turn: StressArgs, StressResult.
	OpStress = "stress"
	// OpMeasure has it measure one call of the DMA API, Samples times: MeasureArgs,
	// MeasureResult.
	OpMeasure = "measure"
)

// The agent's address in the guest, set by OpListen. The network is a /24.
const (
	GuestAddress = "10.0.2.2"
	GuestPort    = 4791
)

// Reported is how many bad pages or datagrams are told of at most.
const Reported = 256

// A Hello says who is there.
type Hello struct {
	Kernel  string // release, such as "6.12.117"
	CPUs    int
	BootMS  int64  // milliseconds from the kernel's start to this
	Cmdline string // of the kernel
}

type TouchArgs struct {
	Pages int
	Seed  uint64
}

type HeartbeatArgs struct {
	Pages int
	Rate  int // how many are written a second, in turn; 0 is all of them each millisecond
}

type StoreArgs struct{ Seed uint64 }

type ReadArgs struct {
	Request int // bytes read at once, a multiple of PageSize; 0 means 1 MiB
}

type ReadResult struct {
	Device string // such as "vda"
	Bytes  int64
}

type VerifyArgs struct {
	Seed uint64
	Old  uint64 // the seed of what was there before
}

type VerifyResult struct {
	Pages   int // compared
	Bad     int
	BadList []BadPage // the first Reported
}

// A BadPage is a page that isn't as it should be.
type BadPage struct {
	Index uint64
	Looks string // Stale, Zero, Torn or Other
}

// What a bad page looks like.
const (
	Stale = "stale" // as it was before
	Zero  = "zero"  // full of zeros
	Torn  = "torn"  // partly as it should be
	Other = "other"
)

type AddressesResult struct {
	Buffer    []Run // of the buffer's pages in their order; nil before OpTouch
	Heartbeat []Run // of the pages of OpHeartbeat
}

// A Run is pages that follow each other in the guest's physical memory: the
// page frame number of the first (its address divided by PageSize), and how
// many they are.
type Run [2]uint64

type ListenResult struct {
	Interface string // such as "eth0"
	MAC       string
	Address   string // GuestAddress
	Port      int    // GuestPort
	Room      int64  // of the queue, in bytes as in QueuedResult
}

type QueuedResult struct {
	Bytes    uint64 // memory that the queued datagrams use, as the kernel counts it: more than they are long
	Drops    uint64 // datagrams that found no room, or came damaged
	Received uint64 // packets of whatever kind that the interface got; 0 if it is unbound
}

type DrainArgs struct {
	Seed   uint64
	Expect uint64 // how many datagrams, numbered from 0
}

type DrainResult struct {
	Count      uint64   // datagrams that came
	Bad        uint64   // of these, damaged, or of a number that isn't expected
	BadList    []uint64 // numbers of the first Reported of them
	Duplicates uint64   // sound, but not the first of their number
	Missing    uint64   // of which no sound one came
}

type ReaderArgs struct {
	Pages   int   // of the memory
	Request int   // bytes read at once, a multiple of PageSize
	Offset  int64 // of the first page on the disk, bytes, a multiple of PageSize
}

type UnbindArgs struct {
	Driver string // such as "virtio_blk"
}

type UnbindResult struct {
	Devices []string // such as "virtio1"
}

type BindArgs struct {
	Driver string // as in UnbindArgs
}

type BindResult struct {
	Devices []string // such as "virtio1"
}

type MarkingArgs struct{ On bool }

type LoadArgs struct{ Module []byte } // a .ko, package dmatest's

// MaxEntries is how many buffers a Cell has at most.
const MaxEntries = 4

// A Cell is memory to be mapped: buffers that lie in pages that follow each other,
// with a page before and behind each that is nobody's. Buffer i begins Offset bytes
// into page 1 + i * (pages that a buffer covers + 1), but for "coherent", which has no
// other pages. No page is full of zeros.
type Cell struct {
	Device          int    // 0 has 64 address bits, 1 has 32
	Map             string // "single", "page", "sg", "phys", "resource" or "coherent": the call, dma_map_single and so on
	Dir             string // "from", "to" or "bidi"
	SkipSync        bool   // with DMA_ATTR_SKIP_CPU_SYNC
	RequireCoherent bool   // with DMA_ATTR_REQUIRE_COHERENT
	High            bool   // above 4 GiB, or below
	Offset, Length  uint32 // of each buffer, bytes: less than a page; all pages together at most 4 MiB
	Entries         int    // how many buffers, more than one for "sg" alone
}

type MapArgs struct{ Cells []Cell }

// NotSupported is the Error of a Cell that the kernel has no call for.
const NotSupported = "not supported"

// A Mapped is what became of a Cell.
type Mapped struct {
	Error string   // of one that is not mapped, else ""
	ID    uint32   // from 1
	Frame uint64   // number of the first page, 0 for "resource"
	Pages uint32   // with those that are nobody's
	DMA   []uint64 // what the device is to use, by buffer
}

type MapResult struct{ Cells []Mapped }

// A Return is how a mapping comes back.
type Return struct {
	ID             uint32
	How            string // "unmap"; "sync" for the CPU, "range" of it, or "device": sync for the device
	Offset, Length uint32 // of a range, bytes
}

type ReturnArgs struct{ Returns []Return }

type StressArgs struct {
	ID           uint32
	Milliseconds int          // at most a minute
	Ranges       [2][2]uint32 // offset and length
}

type StressResult struct{ Syncs uint64 }

// Samples is how often OpMeasure makes a call.
const Samples = 16

type MeasureArgs struct {
	Call   string // "unmap_page" or "sync_single", for the CPU
	Length uint32 // of the buffer, bytes: at most 4 MiB
}

// A MeasureResult is in ticks of the CPU's time stamp counter.
type MeasureResult struct {
	KHz   uint64   // ticks in a millisecond, as the kernel knows it
	Empty []uint64 // of a call that does nothing, made before each
	Ticks []uint64 // of the call, with as much
}
