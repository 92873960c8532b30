package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/envvars"
	netlinktest "k8s.io/kubernetes/pkg/proxy/ipvs/testing"
	utiliptables "k8s.io/kubernetes/pkg/util/iptables"
	"sigs.k8s.io/knftables"
)

// clock collects nanoseconds for each operation, a value a round.
type clock struct {
	rounds  int
	only    string
	results map[string][]float64
}

func (c *clock) wants(name string) bool { return strings.HasPrefix(name, c.only) }

// time runs work once a round, after prepare, and divides by the number of operations in it.
func (c *clock) time(name string, operations int, prepare, work func()) {
	if !c.wants(name) {
		return
	}
	for range c.rounds {
		if prepare != nil {
			prepare()
		}
		start := time.Now()
		work()
		each := float64(time.Since(start).Nanoseconds()) / float64(operations)
		c.results[name] = append(c.results[name], each)
	}
}

// timeAll times what the files in dir hold. Nothing of it reaches a kernel or a tool: what would be handed over is
// written as text and dropped.
func timeAll(dir string, rounds int, only string, out io.Writer) error {
	c := &clock{rounds, only, map[string][]float64{}}
	for pattern, run := range map[string]func(*clock, string, []byte) error{
		"rules-*.json":     timeRules,
		"endpoints-*.json": timeEndpoints,
		"env-*.json":       timeEnv,
		"selectors.json":   timeSelectors,
	} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			base := strings.TrimSuffix(filepath.Base(path), ".json")
			if err := run(c, base[strings.Index(base, "-")+1:], text); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	return json.NewEncoder(out).Encode(c.results)
}

// silentIPTables takes everything, and tells of nothing.
type silentIPTables struct {
	utiliptables.Interface
	written *int
}

func (s silentIPTables) RestoreAll(text []byte, _ utiliptables.FlushFlag, _ utiliptables.RestoreCountersFlag) error {
	*s.written += len(text)
	return nil
}
func (silentIPTables) SaveInto(utiliptables.Table, *bytes.Buffer) error { return nil }

// silentNFTables writes each transaction, as for nft, and drops it.
type silentNFTables struct {
	*knftables.Fake
	written *int
}

func (s silentNFTables) Run(_ context.Context, tx *knftables.Transaction) error {
	*s.written += len(tx.String())
	return nil
}
func (silentNFTables) List(context.Context, string) ([]string, error) { return nil, nil }
func (silentNFTables) ListAll(context.Context) (map[string][]string, error) {
	return map[string][]string{}, nil
}

type rulesInput struct {
	Services []*v1.Service              `json:"services"`
	Slices   []*discovery.EndpointSlice `json:"slices"`
	// Change is a slice and the same with one endpoint replaced.
	Change []*discovery.EndpointSlice `json:"change"`
}

var modes = []string{"iptables", "nftables", "ipvs"}

// silent is a proxier that hands nothing over.
type silent struct {
	proxier
	// written counts the bytes of text for iptables-restore or nft.
	written int
	// forget empties what stands for the kernel.
	forget func()
}

func newSilent(mode string) (*silent, error) {
	conf := &config{
		Family: v1.IPv4Protocol, NodeName: "node-7", NodeIP: "192.168.7.10", MasqueradeBit: 14,
		NodeAddresses: []string{"127.0.0.1", "192.168.7.10"}, Scheduler: "rr",
		LocalDetector: detector{"ClusterCIDR", "10.0.0.0/8"},
	}
	s := &silent{forget: func() {}}
	tables := silentIPTables{newFakeIPTables(conf).FakeIPTables, &s.written}
	var err error
	switch mode {
	case "iptables":
		s.proxier, err = newIPTablesOver(conf, tables)
	case "nftables":
		s.proxier, err = newNFTablesOver(conf, silentNFTables{knftables.NewFake(knftables.IPv4Family, "kube-proxy"), &s.written})
	case "ipvs":
		var m *ipvsMode
		if m, err = newIPVSOver(conf, tables); err == nil {
			s.proxier, s.forget = m.p, func() {
				m.ipvs.Services, m.ipvs.Destinations = nil, nil
				m.sets.Sets, m.sets.Entries = nil, nil
				*m.netlink = netlinktest.FakeNetlinkHandle{}
			}
		}
	}
	return s, err
}

func timeRules(c *clock, size string, text []byte) error {
	var input rulesInput
	for _, mode := range modes {
		if !c.wants(mode) {
			continue
		}
		if input.Services == nil {
			if err := json.Unmarshal(text, &input); err != nil {
				return err
			}
		}
		silent, err := newSilent(mode)
		if err != nil {
			return err
		}
		p := silent.proxier
		n := newNode(p)
		for _, service := range input.Services {
			n.applyService(service)
		}
		for _, slice := range input.Slices {
			n.applySlice(slice)
		}
		n.sync()
		// Small syncs are too short to time alone.
		times := max(1, 1000/len(input.Services))
		c.time(mode+"/full/"+size, times, nil, func() {
			for range times {
				if mode != "ipvs" {
					field(p, "needFullSync").SetBool(true)
				}
				n.sync()
			}
		})
		turn := 0
		c.time(mode+"/one endpoint/"+size, times, nil, func() {
			for range times {
				turn++
				n.applySlice(input.Change[turn%2].DeepCopy())
				n.sync()
			}
		})
	}
	return nil
}

type endpointsInput struct {
	Service *v1.Service `json:"service"`
	Pods    []*v1.Pod   `json:"pods"`
	Nodes   []*v1.Node  `json:"nodes"`
}

func timeEndpoints(c *clock, size string, text []byte) error {
	if !c.wants("endpoints") {
		return nil
	}
	var input endpointsInput
	if err := json.Unmarshal(text, &input); err != nil {
		return err
	}
	w := newWorld()
	for _, node := range input.Nodes {
		w.nodes[node.Name] = node
	}
	// A client that costs nothing: it returns what it is given.
	made := 0
	var written []*discovery.EndpointSlice
	react := func(action clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := action.(clienttesting.CreateActionImpl)
		if !ok {
			return true, action.(clienttesting.UpdateActionImpl).GetObject(), nil
		}
		slice := create.GetObject().(*discovery.EndpointSlice)
		if slice.Name == "" {
			made++
			slice.Name = fmt.Sprintf("%s%d", slice.GenerateName, made)
		}
		written = append(written, slice)
		return true, slice, nil
	}
	config := &slicesConfig{ControllerName: "endpointslice-controller.k8s.io", MaxEndpointsPerSlice: 100}
	reconciler, err := w.reconciler(config, react, record.NewFakeRecorder(1000))
	if err != nil {
		return err
	}
	reconcile := func(existing []*discovery.EndpointSlice) {
		if e := reconciler.Reconcile(klog.Background(), input.Service, input.Pods, existing, time.Time{}); e != nil {
			err = e
		}
	}
	c.time("endpoints/from scratch/"+size, 1, func() { written = nil }, func() { reconcile(nil) })
	if len(written) == 0 {
		reconcile(nil)
	}
	existing := written
	copies := func() []*discovery.EndpointSlice {
		list := make([]*discovery.EndpointSlice, len(existing))
		for at, slice := range existing {
			list[at] = slice.DeepCopy()
		}
		return list
	}
	var now []*discovery.EndpointSlice
	prepare := func() { now = copies() }
	c.time("endpoints/nothing changed/"+size, 1, prepare, func() { reconcile(now) })
	condition := &input.Pods[0].Status.Conditions[0]
	condition.Status = v1.ConditionFalse
	c.time("endpoints/one Pod/"+size, 1, prepare, func() { reconcile(now) })
	return err
}

func timeEnv(c *clock, size string, text []byte) error {
	var input struct {
		Services []*v1.Service `json:"services"`
	}
	if err := json.Unmarshal(text, &input); err != nil {
		return err
	}
	const times = 20
	c.time("env/"+size, times, nil, func() {
		for range times {
			variables := map[string]string{}
			for _, variable := range envvars.FromServices(servicesFor(input.Services, "shop", true)) {
				variables[variable.Name] = variable.Value
			}
		}
	})
	return nil
}

func timeSelectors(c *clock, _ string, text []byte) error {
	var input struct {
		Selectors map[string]string `json:"selectors"`
		Labels    labels.Set        `json:"labels"`
	}
	if err := json.Unmarshal(text, &input); err != nil {
		return err
	}
	const times = 100_000
	for _, name := range sortedKeys(input.Selectors) {
		selector, err := labels.Parse(input.Selectors[name])
		if err != nil {
			return err
		}
		c.time("selector/parse/"+name, times, nil, func() {
			for range times {
				_, _ = labels.Parse(input.Selectors[name])
			}
		})
		c.time("selector/match/"+name, times, nil, func() {
			for range times {
				selector.Matches(input.Labels)
			}
		})
	}
	return nil
}
