package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"
	_ "unsafe" // for go:linkname

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/kubernetes/pkg/controller/endpoint"
)

type endpointsFile struct {
	Source string          `json:"source"`
	Area   string          `json:"area"`
	Cases  []endpointsCase `json:"cases"`
}

type endpointsCase struct {
	Name    string            `json:"name,omitempty"`
	Service string            `json:"service"`
	Objects []json.RawMessage `json:"objects"`
	Current *v1.Endpoints     `json:"current,omitempty"`
	Expect  endpointsOutcome  `json:"expect"`
}

type endpointsOutcome struct {
	Action    string        `json:"action"`
	Endpoints *v1.Endpoints `json:"endpoints,omitempty"`
}

// syncEndpoints is what the controller's workers call for each key; it is not exported.
//
//go:linkname syncEndpoints k8s.io/kubernetes/pkg/controller/endpoint.(*Controller).syncService
func syncEndpoints(c *endpoint.Controller, ctx context.Context, key string) error

func playEndpoints(line []byte) (any, error) {
	var file endpointsFile
	if err := json.Unmarshal(line, &file); err != nil {
		return nil, err
	}
	file.Source = version + " Endpoints controller, syncService"
	for at := range file.Cases {
		if err := file.Cases[at].play(); err != nil {
			return nil, err
		}
	}
	return file, nil
}

func (c *endpointsCase) play() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := newWorld()
	if err := w.apply(c.Objects); err != nil {
		return err
	}
	c.Expect = endpointsOutcome{Action: "none"}
	client := &fake.Clientset{}
	client.AddReactor("*", "endpoints", func(action clienttesting.Action) (bool, runtime.Object, error) {
		switch action := action.(type) {
		case clienttesting.CreateActionImpl:
			c.Expect = endpointsOutcome{"create", action.GetObject().(*v1.Endpoints)}
			return true, c.Expect.Endpoints, nil
		case clienttesting.UpdateActionImpl:
			c.Expect = endpointsOutcome{"update", action.GetObject().(*v1.Endpoints)}
			return true, c.Expect.Endpoints, nil
		case clienttesting.DeleteActionImpl:
			c.Expect = endpointsOutcome{Action: "delete"}
			return true, nil, nil
		}
		return true, nil, errors.New("unexpected action")
	})
	factory := informers.NewSharedInformerFactory(client, 0)
	core := factory.Core().V1()
	controller := endpoint.NewEndpointController(ctx, core.Pods(), core.Services(), core.Endpoints(), client, time.Duration(0))
	for _, service := range w.services {
		if err := core.Services().Informer().GetIndexer().Add(service); err != nil {
			return err
		}
	}
	for _, pod := range w.pods {
		if err := core.Pods().Informer().GetIndexer().Add(pod); err != nil {
			return err
		}
	}
	if c.Current != nil {
		if err := core.Endpoints().Informer().GetIndexer().Add(c.Current); err != nil {
			return err
		}
	}
	return syncEndpoints(controller, ctx, c.Service)
}
