package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// heldAll tells how long the texts are that a proxier of each mode writes, and how much larger the heap is, after a garbage collection, once a proxier of each mode has synced the Services of each
// file. The objects that were read are there before and after, as in the caches of a real kube-proxy; text of a proxier that points
// into them isn't counted.
func heldAll(dir string, out io.Writer) error {
	paths, err := filepath.Glob(filepath.Join(dir, "rules-*.json"))
	if err != nil {
		return err
	}
	results := map[string]int64{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var input rulesInput
		if err := json.Unmarshal(text, &input); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		text = nil
		size := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "rules-"), ".json")
		for _, mode := range modes {
			if err := heldBy(mode, size, &input, results); err != nil {
				return err
			}
		}
		runtime.KeepAlive(input)
	}
	return json.NewEncoder(out).Encode(results)
}

// heldBy returns once its proxier is gone, so that the next one's heap begins without it.
//
//go:noinline
func heldBy(mode, size string, input *rulesInput, results map[string]int64) error {
	before := heap()
	p, err := newSilent(mode)
	if err != nil {
		return err
	}
	n := newNode(p.proxier)
	for _, service := range input.Services {
		n.applyService(service)
	}
	for _, slice := range input.Slices {
		n.applySlice(slice)
	}
	n.sync()
	// The first sync may come in several texts.
	p.written = 0
	if mode != "ipvs" {
		field(p.proxier, "needFullSync").SetBool(true)
	}
	n.sync()
	full := p.written
	p.written = 0
	n.applySlice(input.Change[1])
	n.sync()
	if mode != "ipvs" {
		results["text of "+mode+", full/"+size] = int64(full)
		results["text of "+mode+", one endpoint/"+size] = int64(p.written)
	}
	// What this program remembers to tell updates from additions is not the proxier's.
	n.services, n.slices = nil, nil
	p.forget()
	results[mode+"/"+size] = heap() - before
	runtime.KeepAlive(p)
	return nil
}

// heap is what is in use after everything unused has gone.
func heap() int64 {
	for range 3 {
		runtime.GC()
		time.Sleep(50 * time.Millisecond)
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
