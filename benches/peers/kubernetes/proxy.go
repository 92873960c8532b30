package main

import (
	"encoding/json"
	"fmt"
)

// proxyCase is a case of the areas iptables, nftables and ipvs.
type proxyCase struct {
	Source string      `json:"source"`
	Area   string      `json:"area"`
	Notes  string      `json:"notes,omitempty"`
	Config config      `json:"config"`
	Steps  []proxyStep `json:"steps"`
}

type proxyStep struct {
	Apply          []json.RawMessage  `json:"apply"`
	Delete         []reference        `json:"delete"`
	TopologyLabels *map[string]string `json:"topologyLabels,omitempty"`
	ServiceCIDRs   *[]string          `json:"serviceCIDRs,omitempty"`
	// Aged says that more than a second has passed since the step before.
	Aged         bool     `json:"aged,omitempty"`
	Full         *bool    `json:"full,omitempty"`
	Cleanup      *bool    `json:"cleanup,omitempty"`
	Failed       bool     `json:"failed,omitempty"`
	StaleDeleted []string `json:"staleDeleted,omitempty"`
	Expect       any      `json:"expect"`
}

// mode plays one step's sync: events have been delivered.
type mode interface {
	proxier() proxier
	sync(n *node, step *proxyStep) error
}

func playProxy(line []byte) (any, error) {
	var c proxyCase
	if err := json.Unmarshal(line, &c); err != nil {
		return nil, err
	}
	var m mode
	var err error
	switch c.Area {
	case "iptables":
		m, err = newIPTables(&c.Config)
	case "nftables":
		m, err = newNFTables(&c.Config)
	case "ipvs":
		m, err = newIPVS(&c.Config)
	}
	if err != nil {
		return nil, err
	}
	c.Source = version + " kube-proxy, " + c.Area + " mode, with in-memory fakes"
	n := newNode(m.proxier())
	if len(c.Config.TopologyLabels) > 0 {
		n.proxier.OnTopologyChange(c.Config.TopologyLabels)
	}
	if len(c.Config.ServiceCIDRs) > 0 {
		n.proxier.OnServiceCIDRsChanged(c.Config.ServiceCIDRs)
	}
	for at := range c.Steps {
		step := &c.Steps[at]
		step.Full, step.Cleanup, step.Failed, step.StaleDeleted, step.Expect = nil, nil, false, nil, nil
		for _, object := range step.Apply {
			if err := n.apply(object); err != nil {
				return nil, fmt.Errorf("step %d: %w", at, err)
			}
		}
		for _, gone := range step.Delete {
			n.remove(gone)
		}
		if step.TopologyLabels != nil {
			n.proxier.OnTopologyChange(*step.TopologyLabels)
		}
		if step.ServiceCIDRs != nil {
			n.proxier.OnServiceCIDRsChanged(*step.ServiceCIDRs)
		}
		if err := m.sync(n, step); err != nil {
			return nil, fmt.Errorf("step %d: %w", at, err)
		}
	}
	return c, nil
}
