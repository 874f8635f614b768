// Command go-ttrpc is containerd's own ttrpc library as server and as client of one echo service, for tests that hold
// another implementation against it. Payloads are google.protobuf.BytesValue messages.
//
//	go-ttrpc serve SOCKET    until its standard input ends
//	go-ttrpc call SOCKET     makes every kind of call and prints what came of them, one a line
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const service = "test.Echo"

type message = wrapperspb.BytesValue

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return errors.New("usage: go-ttrpc serve|call SOCKET")
	}
	if os.Args[1] == "serve" {
		return serve(os.Args[2])
	}
	return call(os.Args[2])
}

func serve(path string) error {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	server.RegisterService(service, &ttrpc.ServiceDesc{
		Methods: map[string]ttrpc.Method{"Echo": echo, "Fail": fail, "Never": never, "Metadata": metadata},
		Streams: map[string]ttrpc.Stream{
			"Count": {Handler: count, StreamingServer: true},
			"Sum":   {Handler: sum, StreamingClient: true},
			"Talk":  {Handler: talk, StreamingClient: true, StreamingServer: true},
		},
	})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Close()
	}()
	fmt.Println("listening")
	if err := server.Serve(context.Background(), listener); !errors.Is(err, ttrpc.ErrServerClosed) {
		return err
	}
	return nil
}

func echo(_ context.Context, unmarshal func(any) error) (any, error) {
	var request message
	return &request, unmarshal(&request)
}

func fail(context.Context, func(any) error) (any, error) {
	return nil, status.Error(codes.NotFound, "no such thing")
}

func never(ctx context.Context, _ func(any) error) (any, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func metadata(ctx context.Context, _ func(any) error) (any, error) {
	md, _ := ttrpc.GetMetadata(ctx)
	values, _ := md.Get("key")
	return &message{Value: []byte(strings.Join(values, ","))}, nil
}

func count(_ context.Context, stream ttrpc.StreamServer) (any, error) {
	var request message
	if err := stream.RecvMsg(&request); err != nil {
		return nil, err
	}
	for range string(request.Value) {
		if err := stream.SendMsg(&request); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func sum(_ context.Context, stream ttrpc.StreamServer) (any, error) {
	var all []byte
	for {
		var request message
		if err := stream.RecvMsg(&request); errors.Is(err, io.EOF) {
			return &message{Value: all}, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, request.Value...)
	}
}

func talk(_ context.Context, stream ttrpc.StreamServer) (any, error) {
	for {
		var request message
		if err := stream.RecvMsg(&request); errors.Is(err, io.EOF) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		if string(request.Value) == "stop" {
			return nil, status.Error(codes.Aborted, "told to stop")
		}
		if err := stream.SendMsg(&request); err != nil {
			return nil, err
		}
	}
}

func call(path string) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()

	unary := func(ctx context.Context, name, text string) {
		var answer message
		err := client.Call(ctx, service, name, &message{Value: []byte(text)}, &answer)
		fmt.Fprintf(out, "%s %s %.20q %d\n", name, codeOf(err), answer.Value, len(answer.Value))
	}
	unary(ctx, "Echo", "hello")
	unary(ctx, "Echo", strings.Repeat("x", 4<<20-100))
	unary(ctx, "Fail", "")
	unary(ctx, "None", "")
	unary(ttrpc.WithMetadata(ctx, ttrpc.MD{"key": {"a", "b"}}), "Metadata", "")
	short, cancelShort := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancelShort()
	unary(short, "Never", "")
	return callStreams(ctx, client, out)
}

// codeOf tells a time limit that ended the call here from other errors without a code.
func codeOf(err error) codes.Code {
	if errors.Is(err, context.DeadlineExceeded) {
		return codes.DeadlineExceeded
	}
	return status.Code(err)
}

func callStreams(ctx context.Context, client *ttrpc.Client, out io.Writer) error {
	counting, err := client.NewStream(ctx, &ttrpc.StreamDesc{StreamingServer: true}, service, "Count", &message{Value: []byte("abc")})
	if err != nil {
		return err
	}
	receiveAll(out, "Count", counting)

	summing, err := client.NewStream(ctx, &ttrpc.StreamDesc{StreamingClient: true}, service, "Sum", nil)
	if err != nil {
		return err
	}
	for _, text := range []string{"one", "", "two"} {
		if err := summing.SendMsg(&message{Value: []byte(text)}); err != nil {
			return err
		}
	}
	if err := summing.CloseSend(); err != nil {
		return err
	}
	var all message
	err = summing.RecvMsg(&all)
	fmt.Fprintf(out, "Sum %s %q\n", status.Code(err), all.Value)

	for _, last := range []string{"", "stop"} {
		talking, err := client.NewStream(ctx, &ttrpc.StreamDesc{StreamingClient: true, StreamingServer: true}, service, "Talk", nil)
		if err != nil {
			return err
		}
		var answer message
		if err := errors.Join(talking.SendMsg(&message{Value: []byte("hi")}), talking.RecvMsg(&answer)); err != nil {
			return err
		}
		fmt.Fprintf(out, "Talk %q\n", answer.Value)
		if last == "" {
			err = talking.CloseSend()
		} else {
			err = talking.SendMsg(&message{Value: []byte(last)})
		}
		if err != nil {
			return err
		}
		receiveAll(out, "Talk", talking)
	}
	return nil
}

func receiveAll(out io.Writer, name string, stream ttrpc.ClientStream) {
	for {
		var answer message
		err := stream.RecvMsg(&answer)
		if errors.Is(err, io.EOF) {
			fmt.Fprintf(out, "%s end\n", name)
			return
		} else if err != nil {
			fmt.Fprintf(out, "%s %s\n", name, status.Convert(err).Message())
			return
		}
		fmt.Fprintf(out, "%s %q\n", name, answer.Value)
	}
}
