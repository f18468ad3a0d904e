package ktree

import (
	"context"
	"errors"
)

func openTarball(ctx context.Context, file string, o Options) (*Tree, error) {
	return nil, errors.New("tarballs: not yet")
}
