package main

import (
	"context"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	remote "k8s.io/cri-client/pkg"
)

const (
	exitPollInterval   = 50 * time.Millisecond
	stopTimeoutSeconds = 2
	// cleanUpTimeout is apart from the command's own time: a run that timed out still removes its pod.
	cleanUpTimeout = 30 * time.Second
)

// runResult is what became of the container of the command run.
type runResult struct {
	PodID       string `json:"podId"`
	ContainerID string `json:"containerId"`
	ImageRef    string `json:"imageRef"`
	ExitCode    int32  `json:"exitCode"`
	Reason      string `json:"reason"`
	Message     string `json:"message"`
}

func runtimeService(ctx context.Context, s settings) (internalapi.RuntimeService, error) {
	return remote.NewRemoteRuntimeService(ctx, s.runtimeEndpoint, s.timeout, nil, false)
}

// withRuntime is the shape of most commands: check the arguments, connect, call.
func withRuntime(argCount int, call func(context.Context, internalapi.RuntimeService, []string) (any, error)) command {
	return func(ctx context.Context, s settings, args []string) (any, error) {
		if err := wantArgs(args, argCount); err != nil {
			return nil, err
		}
		runtime, err := runtimeService(ctx, s)
		if err != nil {
			return nil, err
		}
		return call(ctx, runtime, args)
	}
}

// runToEnd runs a pod with one container, waits for the container's end and removes both.
func runToEnd(ctx context.Context, runtime internalapi.RuntimeService, args []string) (_ any, err error) {
	pod, container, err := readPodAndContainer(args[0], args[1])
	if err != nil {
		return nil, err
	}
	result := runResult{}
	if result.PodID, err = runtime.RunPodSandbox(ctx, pod, ""); err != nil {
		return nil, err
	}
	defer func() {
		if cleanUpErr := removePodWithContainers(ctx, runtime, result.PodID); err == nil {
			err = cleanUpErr
		}
	}()
	if result.ContainerID, err = runtime.CreateContainer(ctx, result.PodID, container, pod); err != nil {
		return nil, err
	}
	if err = runtime.StartContainer(ctx, result.ContainerID); err != nil {
		return nil, err
	}
	end, err := waitForExit(ctx, runtime, result.ContainerID)
	if err != nil {
		return nil, err
	}
	result.ImageRef, result.ExitCode = end.GetImageRef(), end.GetExitCode()
	result.Reason, result.Message = end.GetReason(), end.GetMessage()
	return result, nil
}

func waitForExit(ctx context.Context, runtime internalapi.RuntimeService, id string) (*runtimeapi.ContainerStatus, error) {
	for {
		response, err := runtime.ContainerStatus(ctx, id, false)
		if err != nil {
			return nil, err
		}
		if response.GetStatus().GetState() == runtimeapi.ContainerState_CONTAINER_EXITED {
			return response.GetStatus(), nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(exitPollInterval):
		}
	}
}

func removePodWithContainers(ctx context.Context, runtime internalapi.RuntimeService, podID string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	if err := runtime.StopPodSandbox(ctx, podID); err != nil {
		return err
	}
	return runtime.RemovePodSandbox(ctx, podID)
}

func version(ctx context.Context, runtime internalapi.RuntimeService, _ []string) (any, error) {
	response, err := runtime.Version(ctx, "v1")
	return orNil(response, err)
}

func runtimeStatus(ctx context.Context, runtime internalapi.RuntimeService, _ []string) (any, error) {
	response, err := runtime.Status(ctx, true)
	return orNil(response, err)
}

func runPod(ctx context.Context, runtime internalapi.RuntimeService, args []string) (any, error) {
	pod, err := readPodConfig(args[0])
	if err != nil {
		return nil, err
	}
	id, err := runtime.RunPodSandbox(ctx, pod, "")
	return idResult("podId", id, err)
}

func createContainer(ctx context.Context, runtime internalapi.RuntimeService, args []string) (any, error) {
	pod, container, err := readPodAndContainer(args[2], args[1])
	if err != nil {
		return nil, err
	}
	id, err := runtime.CreateContainer(ctx, args[0], container, pod)
	return idResult("containerId", id, err)
}

func startContainer(ctx context.Context, runtime internalapi.RuntimeService, args []string) (any, error) {
	return nil, runtime.StartContainer(ctx, args[0])
}

func inspectContainer(ctx context.Context, runtime internalapi.RuntimeService, args []string) (any, error) {
	response, err := runtime.ContainerStatus(ctx, args[0], true)
	return orNil(response, err)
}

func stopContainer(ctx context.Context, runtime internalapi.RuntimeService, args []string) (any, error) {
	return nil, runtime.StopContainer(ctx, args[0], stopTimeoutSeconds)
}

func removeContainer(ctx context.Context, runtime internalapi.RuntimeService, args []string) (any, error) {
	return nil, runtime.RemoveContainer(ctx, args[0])
}

func stopPod(ctx context.Context, runtime internalapi.RuntimeService, args []string) (any, error) {
	return nil, runtime.StopPodSandbox(ctx, args[0])
}

func removePod(ctx context.Context, runtime internalapi.RuntimeService, args []string) (any, error) {
	return nil, runtime.RemovePodSandbox(ctx, args[0])
}

func listPods(ctx context.Context, runtime internalapi.RuntimeService, _ []string) (any, error) {
	pods, err := runtime.ListPodSandbox(ctx, nil)
	return orNil(&runtimeapi.ListPodSandboxResponse{Items: pods}, err)
}

func listContainers(ctx context.Context, runtime internalapi.RuntimeService, _ []string) (any, error) {
	containers, err := runtime.ListContainers(ctx, nil)
	return orNil(&runtimeapi.ListContainersResponse{Containers: containers}, err)
}

func readPodAndContainer(podPath, containerPath string) (*runtimeapi.PodSandboxConfig, *runtimeapi.ContainerConfig, error) {
	pod, err := readPodConfig(podPath)
	if err != nil {
		return nil, nil, err
	}
	container := &runtimeapi.ContainerConfig{}
	return pod, container, readJSON(containerPath, container)
}

// orNil keeps a typed nil pointer from being taken for a result.
func orNil(value any, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return value, nil
}

func idResult(name, id string, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return map[string]string{name: id}, nil
}
