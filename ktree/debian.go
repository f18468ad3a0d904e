package ktree

import (
	"context"
	"errors"
)

func openDebian(ctx context.Context, version string, o Options) (*Tree, error) {
	return nil, errors.New("debian: not yet")
}
