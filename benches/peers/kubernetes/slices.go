package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/endpointslice"
	"k8s.io/endpointslice/topologycache"
	endpointsliceutil "k8s.io/endpointslice/util"
	"k8s.io/klog/v2"
)

type slicesFile struct {
	Source  string            `json:"source"`
	Area    string            `json:"area"`
	Level   string            `json:"level"`
	Config  slicesConfig      `json:"config"`
	Objects []json.RawMessage `json:"objects"`
	Cases   []slicesCase      `json:"cases"`
}

type slicesConfig struct {
	ControllerName                string   `json:"controllerName"`
	MaxEndpointsPerSlice          int32    `json:"maxEndpointsPerSlice"`
	PreferSameTrafficDistribution bool     `json:"preferSameTrafficDistribution"`
	Topology                      topology `json:"topology"`
	TriggerTime                   string   `json:"triggerTime,omitempty"`
}

type topology struct {
	Enabled bool `json:"enabled"`
}

type slicesCase struct {
	Service  string                     `json:"service"`
	Apply    []json.RawMessage          `json:"apply,omitempty"`
	Delete   []reference                `json:"delete,omitempty"`
	Existing []*discovery.EndpointSlice `json:"existing"`
	Expect   slicesOutcome              `json:"expect"`
}

type slicesOutcome struct {
	Slices    []*discovery.EndpointSlice `json:"slices"`
	Created   int                        `json:"created"`
	Updated   int                        `json:"updated"`
	Deleted   int                        `json:"deleted"`
	Unchanged int                        `json:"unchanged"`
	Error     *string                    `json:"error"`
	Events    []string                   `json:"events"`
}

// world is the Services, Pods and nodes of a file, kept up to date from case to case.
type world struct {
	services map[string]*v1.Service
	pods     map[string]*v1.Pod
	nodes    map[string]*v1.Node
}

func newWorld() *world {
	return &world{map[string]*v1.Service{}, map[string]*v1.Pod{}, map[string]*v1.Node{}}
}

func (w *world) apply(objects []json.RawMessage) error {
	for _, text := range objects {
		var head struct {
			Kind string `json:"kind"`
		}
		if err := json.Unmarshal(text, &head); err != nil {
			return err
		}
		var err error
		switch head.Kind {
		case "Service":
			object := &v1.Service{}
			err = json.Unmarshal(text, object)
			w.services[object.Namespace+"/"+object.Name] = object
		case "Pod":
			object := &v1.Pod{}
			err = json.Unmarshal(text, object)
			w.pods[object.Namespace+"/"+object.Name] = object
		case "Node":
			object := &v1.Node{}
			err = json.Unmarshal(text, object)
			w.nodes[object.Name] = object
		default:
			err = fmt.Errorf("kind %q", head.Kind)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *world) remove(gone []reference) {
	for _, r := range gone {
		switch key := r.Namespace + "/" + r.Name; r.Kind {
		case "Service":
			delete(w.services, key)
		case "Pod":
			delete(w.pods, key)
		case "Node":
			delete(w.nodes, r.Name)
		}
	}
}

// store is an API server for the slices of one Service.
type store struct {
	slices  map[string]*discovery.EndpointSlice
	outcome *slicesOutcome
	made    int
}

func (s *store) react(action clienttesting.Action) (bool, runtime.Object, error) {
	if action.GetResource().Resource != "endpointslices" {
		return true, nil, fmt.Errorf("unexpected %s of %s", action.GetVerb(), action.GetResource().Resource)
	}
	switch action := action.(type) {
	case clienttesting.CreateActionImpl:
		slice := action.GetObject().(*discovery.EndpointSlice).DeepCopy()
		for taken := true; taken; _, taken = s.slices[slice.Name] {
			s.made++
			slice.Name = fmt.Sprintf("%snew%d", slice.GenerateName, s.made)
		}
		slice.UID = types.UID("uid-" + slice.Name)
		s.slices[slice.Name] = slice
		s.outcome.Created++
		return true, slice, nil
	case clienttesting.UpdateActionImpl:
		slice := action.GetObject().(*discovery.EndpointSlice).DeepCopy()
		s.slices[slice.Name] = slice
		s.outcome.Updated++
		return true, slice, nil
	case clienttesting.DeleteActionImpl:
		delete(s.slices, action.GetName())
		s.outcome.Deleted++
		return true, nil, nil
	}
	return true, nil, errors.New("unexpected action")
}

// reconciler makes a Reconciler over the API that the reactor stands for.
func (w *world) reconciler(c *slicesConfig, react clienttesting.ReactionFunc, events *record.FakeRecorder) (*endpointslice.Reconciler, error) {
	client := &fake.Clientset{}
	client.AddReactor("*", "*", react)
	nodes := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	var list []*v1.Node
	for _, name := range sortedKeys(w.nodes) {
		list = append(list, w.nodes[name])
		if err := nodes.Add(w.nodes[name]); err != nil {
			return nil, err
		}
	}
	var zones *topologycache.TopologyCache
	if c.Topology.Enabled {
		zones = topologycache.NewTopologyCache()
		zones.SetNodes(klog.Background(), list)
	}
	return endpointslice.NewReconciler(client, corelisters.NewNodeLister(nodes), c.MaxEndpointsPerSlice,
		endpointsliceutil.NewEndpointSliceTracker(), zones, events, c.ControllerName,
		endpointslice.WithPreferSameTrafficDistributionEnabled(c.PreferSameTrafficDistribution)), nil
}

func playSlices(line []byte) (any, error) {
	var file slicesFile
	if err := json.Unmarshal(line, &file); err != nil {
		return nil, err
	}
	file.Source = version + " EndpointSlice controller, Reconciler"
	var trigger time.Time
	if file.Config.TriggerTime != "" {
		var err error
		if trigger, err = time.Parse(time.RFC3339Nano, file.Config.TriggerTime); err != nil {
			return nil, err
		}
	}
	w := newWorld()
	if err := w.apply(file.Objects); err != nil {
		return nil, err
	}
	var previous []*discovery.EndpointSlice
	for at := range file.Cases {
		c := &file.Cases[at]
		w.remove(c.Delete)
		if err := w.apply(c.Apply); err != nil {
			return nil, err
		}
		if at > 0 {
			c.Existing = previous
		}
		if err := w.reconcile(&file.Config, c, trigger); err != nil {
			return nil, err
		}
		previous = c.Expect.Slices
	}
	return file, nil
}

func (w *world) reconcile(config *slicesConfig, c *slicesCase, trigger time.Time) error {
	service := w.services[c.Service]
	if service == nil {
		return fmt.Errorf("no Service %s", c.Service)
	}
	c.Expect = slicesOutcome{Slices: []*discovery.EndpointSlice{}, Events: []string{}}
	api := &store{slices: map[string]*discovery.EndpointSlice{}, outcome: &c.Expect}
	var existing []*discovery.EndpointSlice
	for _, slice := range c.Existing {
		api.slices[slice.Name] = slice
		existing = append(existing, slice.DeepCopy())
	}
	events := record.NewFakeRecorder(1000)
	reconciler, err := w.reconciler(config, api.react, events)
	if err != nil {
		return err
	}
	var pods []*v1.Pod
	for _, key := range sortedKeys(w.pods) {
		pods = append(pods, w.pods[key])
	}
	if err := reconciler.Reconcile(klog.Background(), service, pods, existing, trigger); err != nil {
		text := err.Error()
		c.Expect.Error = &text
	}
	c.Expect.Unchanged = len(c.Existing) - c.Expect.Updated - c.Expect.Deleted
	for _, name := range sortedKeys(api.slices) {
		c.Expect.Slices = append(c.Expect.Slices, api.slices[name])
	}
	for len(events.Events) > 0 {
		c.Expect.Events = append(c.Expect.Events, <-events.Events)
	}
	sort.Strings(c.Expect.Events)
	return nil
}
