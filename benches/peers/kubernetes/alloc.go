package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	"k8s.io/kubernetes/pkg/registry/core/service/portallocator"
	netutils "k8s.io/utils/net"
)

type allocFile struct {
	Source string       `json:"source"`
	Area   string       `json:"area"`
	Kind   string       `json:"kind"`
	Cases  []*allocCase `json:"cases"`
}

// allocCase is a range, and what is done with it in turn.
type allocCase struct {
	CIDR      string     `json:"cidr,omitempty"`
	Range     string     `json:"range,omitempty"`
	Ops       []*allocOp `json:"ops"`
	UsedAfter any        `json:"usedAfter"`
}

type allocOp struct {
	Op    string      `json:"op"`
	IP    string      `json:"ip,omitempty"`
	Port  *int        `json:"port,omitempty"`
	Got   any         `json:"got,omitempty"`
	Has   *bool       `json:"has,omitempty"`
	Error *allocError `json:"error,omitempty"`
	Used  int         `json:"used"`
	Free  int         `json:"free"`
}

type allocError struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

func playAlloc(line []byte) (any, error) {
	var file allocFile
	if err := json.Unmarshal(line, &file); err != nil {
		return nil, err
	}
	file.Source = version + ", ClusterIP bitmap and NodePort allocators"
	for _, c := range file.Cases {
		run := (*allocCase).clusterIP
		if file.Kind == "nodePort" {
			run = (*allocCase).nodePort
		}
		if err := run(c); err != nil {
			return nil, err
		}
	}
	return file, nil
}

func (c *allocCase) clusterIP() error {
	_, cidr, err := netutils.ParseCIDRSloppy(c.CIDR)
	if err != nil {
		return err
	}
	r, err := ipallocator.NewInMemory(cidr)
	if err != nil {
		return err
	}
	for _, op := range c.Ops {
		ip := netutils.ParseIPSloppy(op.IP)
		var err error
		switch op.Op {
		case "allocate":
			err = r.Allocate(ip)
		case "release":
			err = r.Release(ip)
		case "has":
			has := r.Has(ip)
			op.Has = &has
		case "allocateNext":
			var got net.IP
			if got, err = r.AllocateNext(); err == nil {
				op.Got = got.String()
			}
		default:
			return fmt.Errorf("op %q", op.Op)
		}
		var outside *ipallocator.ErrNotInRange
		if op.Error, err = kindOf(err, ipallocator.ErrAllocated, ipallocator.ErrFull, errors.As(err, &outside)); err != nil {
			return err
		}
		op.Used, op.Free = r.Used(), r.Free()
	}
	used := []string{}
	r.ForEach(func(ip net.IP) { used = append(used, ip.String()) })
	c.UsedAfter = used
	return nil
}

func (c *allocCase) nodePort() error {
	ports, err := utilnet.ParsePortRange(c.Range)
	if err != nil {
		return err
	}
	a, err := portallocator.NewInMemory(*ports)
	if err != nil {
		return err
	}
	for _, op := range c.Ops {
		port := 0
		if op.Port != nil {
			port = *op.Port
		}
		var err error
		switch op.Op {
		case "allocate":
			err = a.Allocate(port)
		case "release":
			err = a.Release(port)
		case "has":
			has := a.Has(port)
			op.Has = &has
		case "allocateNext":
			var got int
			if got, err = a.AllocateNext(); err == nil {
				op.Got = got
			}
		default:
			return fmt.Errorf("op %q", op.Op)
		}
		var outside *portallocator.ErrNotInRange
		if op.Error, err = kindOf(err, portallocator.ErrAllocated, portallocator.ErrFull, errors.As(err, &outside)); err != nil {
			return err
		}
		op.Used, op.Free = a.Used(), a.Free()
	}
	used := []int{}
	a.ForEach(func(port int) { used = append(used, port) })
	c.UsedAfter = used
	return nil
}

// kindOf names an allocator's error; others are errors here, too.
func kindOf(err, allocated, full error, outside bool) (*allocError, error) {
	switch {
	case err == nil:
		return nil, nil
	case errors.Is(err, allocated):
		return &allocError{"allocated", err.Error()}, nil
	case errors.Is(err, full):
		return &allocError{"full", err.Error()}, nil
	case outside:
		return &allocError{"not-in-range", err.Error()}, nil
	}
	return nil, err
}
