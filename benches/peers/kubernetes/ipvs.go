package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"sort"
	"time"

	netutils "k8s.io/utils/net"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/proxy/ipvs"
	ipsettest "k8s.io/kubernetes/pkg/proxy/ipvs/ipset/testing"
	netlinktest "k8s.io/kubernetes/pkg/proxy/ipvs/testing"
	ipvstest "k8s.io/kubernetes/pkg/proxy/ipvs/util/testing"
	utiliptables "k8s.io/kubernetes/pkg/util/iptables"
)

// ipvsDevice is the device that virtual addresses are bound to.
const ipvsDevice = "kube-ipvs0"

type ipvsMode struct {
	p        *ipvs.Proxier
	iptables *recordedIPTables
	ipvs     *ipvstest.FakeIPVS
	sets     *ipsettest.FakeIPSet
	netlink  *netlinktest.FakeNetlinkHandle
}

func newIPVS(c *config) (mode, error) {
	if c.Scheduler == "" {
		c.Scheduler = "rr"
	}
	m, err := newIPVSOver(c, newFakeIPTables(c))
	if err != nil {
		return nil, err
	}
	c.IPSetIPv6Names = c.Family == v1.IPv6Protocol
	return m, nil
}

func newIPVSOver(c *config, ipt utiliptables.Interface) (*ipvsMode, error) {
	m := &ipvsMode{
		ipvs:    ipvstest.NewFake(),
		sets:    ipsettest.NewFake("v7.1"),
		netlink: netlinktest.NewFakeNetlinkHandle(c.Family == v1.IPv6Protocol),
	}
	m.iptables, _ = ipt.(*recordedIPTables)
	var loopback, others []string
	for _, address := range c.NodeAddresses {
		if ip := net.ParseIP(address); ip != nil && ip.IsLoopback() {
			loopback = append(loopback, address)
		} else {
			others = append(others, address)
		}
	}
	if err := errors.Join(m.netlink.SetLocalAddresses("lo", loopback...), m.netlink.SetLocalAddresses("eth0", others...)); err != nil {
		return nil, err
	}
	p, err := ipvs.NewProxier(context.Background(), c.Family, ipt, m.ipvs, m.sets, fakeSysctl{}, time.Hour, 0, c.ExcludeCIDRs,
		c.StrictARP, 0, 0, 0, c.MasqueradeAll, c.MasqueradeBit, c.LocalDetector.make(), c.NodeName,
		netutils.ParseIPSloppy(c.NodeIP), nil, nil, c.Scheduler, c.NodePortAddresses, false)
	if err != nil {
		return nil, err
	}
	isolate(p, c)
	field(p, "netlinkHandle").Set(reflect.ValueOf(m.netlink))
	m.p = p
	return m, nil
}

func (m *ipvsMode) proxier() proxier { return m.p }

func (m *ipvsMode) sync(n *node, step *proxyStep) error {
	m.iptables.restore, m.iptables.refused = "", nil
	n.sync()
	if m.iptables.refused != nil {
		return m.iptables.refused
	}
	bound, err := m.netlink.GetLocalAddresses(ipvsDevice)
	if err != nil {
		return err
	}
	sets := map[string][]string{}
	for name, entries := range m.sets.Entries {
		sets[name] = append([]string{}, entries.List()...)
	}
	addresses := append([]string{}, bound.UnsortedList()...)
	sort.Strings(addresses)
	step.Expect = map[string]any{
		"services":  m.servers(),
		"ipsets":    sets,
		"restore":   m.iptables.restore,
		"addresses": addresses,
	}
	return nil
}

func (m *ipvsMode) servers() []map[string]any {
	servers := []map[string]any{}
	for key, server := range m.ipvs.Services {
		destinations := []map[string]any{}
		for _, destination := range m.ipvs.Destinations[key] {
			destinations = append(destinations, map[string]any{
				"address": destination.Address.String(), "port": destination.Port, "weight": destination.Weight,
			})
		}
		servers = append(servers, map[string]any{
			"address": server.Address.String(), "port": server.Port, "protocol": server.Protocol,
			"scheduler": server.Scheduler, "flags": uint32(server.Flags), "timeout": server.Timeout,
			"destinations": destinations,
		})
	}
	sort.Slice(servers, func(a, b int) bool { return fmt.Sprint(servers[a]) < fmt.Sprint(servers[b]) })
	return servers
}
