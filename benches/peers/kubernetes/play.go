package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// players has a function for each area: a case in the vector format, without or with outdated outcomes, to the same
// case with the outcomes of Kubernetes.
var players = map[string]func([]byte) (any, error){
	"alloc":             playAlloc,
	"endpoints":         playEndpoints,
	"endpointslice":     playSlices,
	"env":               playEnv,
	"iptables":          playProxy,
	"ipvs":              playProxy,
	"nftables":          playProxy,
	"policy-validation": playValidation,
	"selector":          playSelectors,
	"service":           playValidation,
}

func quietLogs() {
	log.SetOutput(io.Discard)
	klog.SetLogger(logr.Discard())
}

// play answers each line with one line: the case played, or {"failed": "why"}.
func play(in io.Reader, out io.Writer) error {
	lines := bufio.NewReaderSize(in, 1<<20)
	writer := bufio.NewWriter(out)
	encoder := json.NewEncoder(writer)
	encoder.SetEscapeHTML(false)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 && err == io.EOF {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		played, err := playLine(line)
		if err != nil {
			played = map[string]string{"failed": err.Error()}
		}
		if err := encoder.Encode(played); err != nil {
			return err
		}
		if err := writer.Flush(); err != nil {
			return err
		}
	}
}

func playLine(line []byte) (played any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	var head struct {
		Area string `json:"area"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, err
	}
	player, ok := players[head.Area]
	if !ok {
		return nil, fmt.Errorf("no area %q", head.Area)
	}
	return player(line)
}

// version names what produced the outcomes.
const version = "Kubernetes v1.36.2"
