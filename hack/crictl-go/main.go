// crictl-go is a small command line client for the Container Runtime Interface, made for tests: it is built on
// the client library of kubelet, prints JSON on stdout, and tells an error as {"code", "message"} on stderr.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"k8s.io/klog/v2"
)

const usage = `crictl-go [--runtime-endpoint URL] [--image-endpoint URL] [--timeout DURATION] COMMAND …

images:   pull [--creds USER:PASS] [--annotation K=V]… [--pod-config FILE.json] IMAGE
          images | inspecti IMAGE | rmi IMAGE | imagefsinfo
runtime:  version | status | run POD.json CONTAINER.json
          runp POD.json | create POD_ID CONTAINER.json POD.json | start ID | inspect ID | stop ID | rm ID
          stopp POD_ID | rmp POD_ID | pods | ps
Flags of a command stand before its arguments. Without --image-endpoint the runtime endpoint is used.
`

// settings are the flags that every command shares.
type settings struct {
	runtimeEndpoint string
	imageEndpoint   string
	timeout         time.Duration
}

// command runs with its own arguments and gives the value to print, or nil for nothing.
type command func(ctx context.Context, s settings, args []string) (any, error)

var commands = map[string]command{
	"pull":        pullImage,
	"images":      listImages,
	"inspecti":    inspectImage,
	"rmi":         removeImage,
	"imagefsinfo": imageFsInfo,
	"version":     withRuntime(0, version),
	"status":      withRuntime(0, runtimeStatus),
	"run":         withRuntime(2, runToEnd),
	"runp":        withRuntime(1, runPod),
	"create":      withRuntime(3, createContainer),
	"start":       withRuntime(1, startContainer),
	"inspect":     withRuntime(1, inspectContainer),
	"stop":        withRuntime(1, stopContainer),
	"rm":          withRuntime(1, removeContainer),
	"stopp":       withRuntime(1, stopPod),
	"rmp":         withRuntime(1, removePod),
	"pods":        withRuntime(0, listPods),
	"ps":          withRuntime(0, listContainers),
}

var errUsage = errors.New("usage")

func main() {
	// The client library logs each failed call; the error itself is all that the caller wants.
	klog.SetLogger(logr.Discard())

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	result, err := runCommand(ctx, os.Args[1:])
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	case err != nil:
		printError(err)
		os.Exit(1)
	case result != nil:
		printJSON(os.Stdout, result)
	}
}

func runCommand(ctx context.Context, args []string) (any, error) {
	var s settings
	flags := newFlags("crictl-go")
	flags.StringVar(&s.runtimeEndpoint, "runtime-endpoint", "unix:///run/containerd/containerd.sock", "")
	flags.StringVar(&s.imageEndpoint, "image-endpoint", "", "")
	flags.DurationVar(&s.timeout, "timeout", time.Minute, "for the command as a whole")
	if flags.Parse(args) != nil || flags.NArg() == 0 {
		return nil, errUsage
	}
	if s.imageEndpoint == "" {
		s.imageEndpoint = s.runtimeEndpoint
	}
	run, ok := commands[flags.Arg(0)]
	if !ok {
		return nil, errUsage
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return run(ctx, s, withoutOutputFlag(flags.Args()[1:]))
}

// withoutOutputFlag accepts crictl's "-o json", which is what this program prints anyway.
func withoutOutputFlag(args []string) []string {
	if len(args) >= 2 && args[0] == "-o" && args[1] == "json" {
		return args[2:]
	}
	return args
}

func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

// wantArgs makes sure that a command got all its arguments and no more. A leading "-o json" was taken off before.
func wantArgs(args []string, count int) error {
	if len(args) != count {
		return errUsage
	}
	return nil
}

// printJSON writes protobuf messages as crictl does (field names in camelCase, 64-bit numbers as strings).
func printJSON(out io.Writer, value any) {
	if message, ok := value.(proto.Message); ok {
		text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(message)
		if err != nil {
			panic(err)
		}
		value = json.RawMessage(text)
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value)
}

// printError tells the gRPC code of the error, also of one that was wrapped. The library drops code Unknown and
// leaves a plain error, which status.Convert takes for Unknown again.
func printError(err error) {
	s := status.Convert(err)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		s = status.FromContextError(err)
	}
	printJSON(os.Stderr, map[string]string{"code": s.Code().String(), "message": s.Message()})
}
