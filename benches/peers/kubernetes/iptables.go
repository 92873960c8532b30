package main

import (
	"context"
	"errors"
	"reflect"
	"time"

	netutils "k8s.io/utils/net"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/proxy/iptables"
	utiliptables "k8s.io/kubernetes/pkg/util/iptables"
	iptest "k8s.io/kubernetes/pkg/util/iptables/testing"
)

// recordedIPTables is upstream's fake, which checks what it is given, and keeps the text of the last restore.
type recordedIPTables struct {
	*iptest.FakeIPTables
	restore string
	refused error
}

func (r *recordedIPTables) RestoreAll(data []byte, flush utiliptables.FlushFlag, counters utiliptables.RestoreCountersFlag) error {
	r.restore = string(data)
	r.refused = r.FakeIPTables.RestoreAll(data, flush, counters)
	return r.refused
}

func newFakeIPTables(c *config) *recordedIPTables {
	fake := iptest.NewFake()
	if c.Family == v1.IPv6Protocol {
		fake = iptest.NewIPv6Fake()
	}
	fake.SetHasRandomFully(c.RandomFully)
	return &recordedIPTables{FakeIPTables: fake}
}

type iptablesMode struct {
	p        *iptables.Proxier
	iptables *recordedIPTables
}

// newIPTables makes a proxier over the given iptables, and writes back the configuration that took effect.
func newIPTablesOver(c *config, ipt utiliptables.Interface) (*iptables.Proxier, error) {
	p, err := iptables.NewProxier(context.Background(), c.Family, ipt, fakeSysctl{c.TCPLiberal}, time.Hour, 0,
		c.MasqueradeAll, c.LocalhostNodePorts, c.MasqueradeBit, c.LocalDetector.make(), c.NodeName,
		netutils.ParseIPSloppy(c.NodeIP), nil, nil, c.NodePortAddresses, false)
	if err != nil {
		return nil, err
	}
	isolate(p, c)
	counters := map[string]bool{}
	for _, name := range c.NFAcct {
		counters[name] = true
	}
	field(p, "nfacct").SetZero()
	field(p, "nfAcctCounters").Set(reflect.ValueOf(counters))
	c.LocalhostNodePorts = field(p, "localhostNodePorts").Bool()
	return p, nil
}

func newIPTables(c *config) (mode, error) {
	ipt := newFakeIPTables(c)
	p, err := newIPTablesOver(c, ipt)
	return &iptablesMode{p, ipt}, err
}

func (m *iptablesMode) proxier() proxier { return m.p }

func (m *iptablesMode) sync(n *node, step *proxyStep) error {
	full := field(m.p, "needFullSync").Bool()
	cleaned := field(m.p, "lastIPTablesCleanup").Interface()
	m.iptables.restore, m.iptables.refused = "", nil
	n.sync()
	if m.iptables.refused != nil {
		return m.iptables.refused
	}
	if m.iptables.restore == "" {
		return errors.New("nothing was restored")
	}
	step.Full = &full
	if cleaned == field(m.p, "lastIPTablesCleanup").Interface() {
		kept := false
		step.Cleanup = &kept
	}
	step.Expect = map[string]string{"restore": m.iptables.restore}
	return nil
}
