package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	remote "k8s.io/cri-client/pkg"
)

func imageService(ctx context.Context, s settings) (internalapi.ImageManagerService, error) {
	return remote.NewRemoteImageService(ctx, s.imageEndpoint, s.timeout, nil, false)
}

func pullImage(ctx context.Context, s settings, args []string) (any, error) {
	annotations := annotationFlag{}
	flags := newFlags("pull")
	creds := flags.String("creds", "", "USER:PASS")
	podConfig := flags.String("pod-config", "", "JSON file")
	flags.Var(annotations, "annotation", "K=V")
	if flags.Parse(args) != nil || flags.NArg() != 1 {
		return nil, errUsage
	}
	pod, err := readPodConfig(*podConfig)
	if err != nil {
		return nil, err
	}
	images, err := imageService(ctx, s)
	if err != nil {
		return nil, err
	}
	spec := &runtimeapi.ImageSpec{Image: flags.Arg(0), Annotations: annotations}
	ref, err := images.PullImage(ctx, spec, authConfig(*creds), pod)
	if err != nil {
		return nil, err
	}
	return map[string]string{"imageRef": ref}, nil
}

func listImages(ctx context.Context, s settings, args []string) (any, error) {
	if err := wantArgs(args, 0); err != nil {
		return nil, err
	}
	images, err := imageService(ctx, s)
	if err != nil {
		return nil, err
	}
	list, err := images.ListImages(ctx, nil)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ListImagesResponse{Images: list}, nil
}

// inspectImage answers an image that is not there as crictl does: with code NotFound.
func inspectImage(ctx context.Context, s settings, args []string) (any, error) {
	if err := wantArgs(args, 1); err != nil {
		return nil, err
	}
	images, err := imageService(ctx, s)
	if err != nil {
		return nil, err
	}
	response, err := images.ImageStatus(ctx, &runtimeapi.ImageSpec{Image: args[0]}, true)
	if err != nil {
		return nil, err
	}
	if response.GetImage() == nil {
		return nil, status.Errorf(codes.NotFound, "no such image %q present", args[0])
	}
	return response, nil
}

func removeImage(ctx context.Context, s settings, args []string) (any, error) {
	if err := wantArgs(args, 1); err != nil {
		return nil, err
	}
	images, err := imageService(ctx, s)
	if err != nil {
		return nil, err
	}
	return nil, images.RemoveImage(ctx, &runtimeapi.ImageSpec{Image: args[0]})
}

func imageFsInfo(ctx context.Context, s settings, args []string) (any, error) {
	if err := wantArgs(args, 0); err != nil {
		return nil, err
	}
	images, err := imageService(ctx, s)
	if err != nil {
		return nil, err
	}
	response, err := images.ImageFsInfo(ctx)
	if err != nil {
		return nil, err
	}
	return response, nil
}

func authConfig(creds string) *runtimeapi.AuthConfig {
	if creds == "" {
		return nil
	}
	user, password, _ := strings.Cut(creds, ":")
	return &runtimeapi.AuthConfig{Username: user, Password: password}
}

func readPodConfig(path string) (*runtimeapi.PodSandboxConfig, error) {
	if path == "" {
		return nil, nil
	}
	pod := &runtimeapi.PodSandboxConfig{}
	return pod, readJSON(path, pod)
}

// readJSON takes field names in snake_case, as in crictl's files, and in camelCase.
func readJSON(path string, into proto.Message) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal(content, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// annotationFlag collects the pairs of a flag that may be given many times.
type annotationFlag map[string]string

func (a annotationFlag) String() string { return "" }

func (a annotationFlag) Set(pair string) error {
	key, value, found := strings.Cut(pair, "=")
	if !found {
		return errUsage
	}
	a[key] = value
	return nil
}
