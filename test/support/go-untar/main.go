// Command go-untar applies a layer's tar with containerd's own archive package, for tests that compare trees.
//
//	go-untar overlay|merge ROOT < TAR
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/containerd/containerd/v2/pkg/archive"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return fmt.Errorf("usage: go-untar overlay|merge ROOT < TAR")
	}
	var options []archive.ApplyOpt
	if os.Args[1] == "overlay" {
		options = append(options, archive.WithConvertWhiteout(archive.OverlayConvertWhiteout))
	}
	if _, err := archive.Apply(context.Background(), os.Args[2], os.Stdin, options...); err != nil {
		return err
	}
	// containerd reads to the end, for the digest.
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}
