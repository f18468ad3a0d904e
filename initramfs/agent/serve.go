package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"patchgen/initramfs/protocol"
)

// ops are the operations by their names.
var ops = map[string]func(a *agent, args json.RawMessage) (any, error){
	protocol.OpHello:     none((*agent).helloOp),
	protocol.OpTouch:     some((*agent).touch),
	protocol.OpHeartbeat: some((*agent).heartbeat),
	protocol.OpStore:     some((*agent).store),
	protocol.OpRead:      some((*agent).read),
	protocol.OpVerify:    some((*agent).verify),
	protocol.OpAddresses: none((*agent).addresses),
	protocol.OpListen:    none((*agent).listen),
	protocol.OpQueued:    none((*agent).queued),
	protocol.OpDrain:     some((*agent).drain),
	protocol.OpReader:    some((*agent).reader),
	protocol.OpUnbind:    some((*agent).unbind),
	protocol.OpBind:      some((*agent).bind),
	protocol.OpMarking:   some((*agent).marking),
	protocol.OpSuspend:   none((*agent).suspend),
	protocol.OpCounters:  none((*agent).counters),
	protocol.OpLoad:      some((*agent).load),
	protocol.OpMap:       some((*agent).mapCells),
	protocol.OpReturn:    some((*agent).giveBack),
	protocol.OpStress:    some((*agent).stress),
	protocol.OpMeasure:   some((*agent).measure),
}

// some makes an operation of a function with arguments.
func some[Args any](f func(*agent, Args) (any, error)) func(*agent, json.RawMessage) (any, error) {
	return func(a *agent, data json.RawMessage) (any, error) {
		var args Args
		if err := json.Unmarshal(data, &args); err != nil {
			return nil, fmt.Errorf("its arguments: %w", err)
		}
		return f(a, args)
	}
}

// none makes an operation of a function without arguments.
func none(f func(*agent) (any, error)) func(*agent, json.RawMessage) (any, error) {
	return func(a *agent, _ json.RawMessage) (any, error) { return f(a) }
}

// do carries out one operation. Whatever goes wrong is its error.
func (a *agent) do(op string, args json.RawMessage) (result json.RawMessage, err error) {
	f, ok := ops[op]
	if !ok {
		return nil, fmt.Errorf("there is no operation %q", op)
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	v, err := f(a, args)
	if err != nil || v == nil {
		return nil, err
	}
	return json.Marshal(v)
}

// reconnect is how often to look whether the host is back.
const reconnect = 5 * time.Millisecond

// serve says hello, if it should, and answers requests as long as the port
// works. If the host goes away it waits for another.
func (a *agent) serve(p io.ReadWriter, greet bool) error {
	if greet {
		a.provoke.at(protocol.OpHello, p)
		if err := a.answer(p, 0, protocol.OpHello, nil); err != nil {
			return err
		}
	}
	for {
		req, err := protocol.ReadRequest(p)
		var nonsense *protocol.FrameError
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			time.Sleep(reconnect)
		case errors.As(err, &nonsense):
			if err := protocol.WriteReply(p, protocol.Reply{Error: nonsense.Error()}); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			a.provoke.at(req.Op, p)
			if err := a.answer(p, req.ID, req.Op, req.Args); err != nil {
				return err
			}
		}
	}
}

// answer carries out an operation and replies.
func (a *agent) answer(w io.Writer, id uint64, op string, args json.RawMessage) error {
	result, err := a.do(op, args)
	reply := protocol.Reply{ID: id, Result: result}
	if err != nil {
		reply = protocol.Reply{ID: id, Error: err.Error()}
	}
	err = protocol.WriteReply(w, reply)
	var long *protocol.FrameError
	if errors.As(err, &long) {
		err = protocol.WriteReply(w, protocol.Reply{ID: id, Error: "its result: " + long.Problem})
	}
	return err
}

func (a *agent) helloOp() (any, error) { return a.hello() }
