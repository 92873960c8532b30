package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	netutils "k8s.io/utils/net"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/proxy/nftables"
	"sigs.k8s.io/knftables"
)

// recordedNFTables is the in-memory nftables of knftables, which checks what it is given, and keeps the transactions.
type recordedNFTables struct {
	*knftables.Fake
	transactions []*knftables.Transaction
	refused      error
}

func (r *recordedNFTables) Run(ctx context.Context, tx *knftables.Transaction) error {
	r.transactions = append(r.transactions, tx)
	if err := r.Fake.Run(ctx, tx); err != nil {
		r.refused = err
	}
	return r.refused
}

// standInNFT puts a program called nft into PATH: the constructor asks one for its version, and then it is replaced.
var standInNFT = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "peers-nft")
	if err != nil {
		return err
	}
	script := "#!/bin/sh\necho 'nftables v1.1.0'\n"
	if err := os.WriteFile(filepath.Join(dir, "nft"), []byte(script), 0o700); err != nil {
		return err
	}
	if err := os.Setenv("KUBE_PROXY_NFTABLES_SKIP_KERNEL_VERSION_CHECK", "1"); err != nil {
		return err
	}
	return os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
})

func nftablesFamily(family v1.IPFamily) knftables.Family {
	if family == v1.IPv6Protocol {
		return knftables.IPv6Family
	}
	return knftables.IPv4Family
}

type nftablesMode struct {
	p   *nftables.Proxier
	nft *recordedNFTables
}

func newNFTablesOver(c *config, nft knftables.Interface) (*nftables.Proxier, error) {
	if err := standInNFT(); err != nil {
		return nil, err
	}
	p, err := nftables.NewProxier(context.Background(), c.Family, time.Hour, 0, c.MasqueradeAll, c.MasqueradeBit,
		c.LocalDetector.make(), c.NodeName, netutils.ParseIPSloppy(c.NodeIP), nil, nil, c.NodePortAddresses, false)
	if err != nil {
		return nil, err
	}
	isolate(p, c)
	field(p, "nftables").Set(reflect.ValueOf(nft))
	return p, nil
}

func newNFTables(c *config) (mode, error) {
	nft := &recordedNFTables{Fake: knftables.NewFake(nftablesFamily(c.Family), "kube-proxy")}
	p, err := newNFTablesOver(c, nft)
	return &nftablesMode{p, nft}, err
}

func (m *nftablesMode) proxier() proxier { return m.p }

func (m *nftablesMode) sync(n *node, step *proxyStep) error {
	full := field(m.p, "needFullSync").Bool()
	if step.Aged {
		stale := field(m.p, "staleChains").Interface().(map[string]time.Time)
		for chain, since := range stale {
			stale[chain] = since.Add(-2 * time.Second)
		}
	}
	m.nft.transactions, m.nft.refused = nil, nil
	n.sync()
	if m.nft.refused != nil {
		return m.nft.refused
	}
	if len(m.nft.transactions) == 0 {
		return errors.New("no transaction was run")
	}
	last := len(m.nft.transactions) - 1
	for _, tx := range m.nft.transactions[:last] {
		for line := range strings.Lines(tx.String()) {
			words := strings.Fields(line)
			if len(words) == 5 && words[0] == "delete" && words[1] == "chain" {
				step.StaleDeleted = append(step.StaleDeleted, words[4])
			}
		}
	}
	step.Full = &full
	step.Expect = map[string]any{
		"table":      m.nft.Dump(),
		"operations": m.nft.transactions[last].NumOperations(),
	}
	return nil
}
