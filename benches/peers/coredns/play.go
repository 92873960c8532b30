package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/plugin/transfer"
	"github.com/miekg/dns"
)

type file struct {
	Source  string            `json:"source"`
	Area    string            `json:"area"`
	Kind    string            `json:"kind"`
	Config  json.RawMessage   `json:"config"`
	Objects []json.RawMessage `json:"objects"`
	Cases   []question        `json:"cases"`
	Notes   []string          `json:"notes,omitempty"`
}

type question struct {
	QName      string   `json:"qname"`
	QType      string   `json:"qtype,omitempty"`
	Rcode      string   `json:"rcode"`
	TC         bool     `json:"tc"`
	Answer     []string `json:"answer"`
	Authority  []string `json:"authority"`
	Additional []string `json:"additional"`
}

// recorder keeps what is written to it.
type recorder struct {
	test.ResponseWriter
	written *dns.Msg
}

func (r *recorder) WriteMsg(m *dns.Msg) error {
	r.written = m
	return nil
}

// ask fills in the answer.
func (s *server) ask(q *question) error {
	kind, ok := dns.StringToType[q.QType]
	if !ok {
		return fmt.Errorf("no type %q", q.QType)
	}
	m := new(dns.Msg)
	m.SetQuestion(q.QName, kind)
	s.next.asked = false
	w := &recorder{}
	rcode, err := s.ServeDNS(context.Background(), w, m)
	q.TC, q.Answer, q.Authority, q.Additional = false, []string{}, []string{}, []string{}
	switch {
	case s.next.asked:
		q.Rcode = "NEXT"
	case w.written == nil:
		// The server answers with the code alone.
		q.Rcode = dns.RcodeToString[rcode]
	case err != nil:
		return err
	default:
		q.Rcode, q.TC = dns.RcodeToString[w.written.Rcode], w.written.Truncated
		q.Answer, q.Authority, q.Additional = lines(w.written.Answer), lines(w.written.Ns), lines(w.written.Extra)
	}
	return nil
}

// transfer fills in the whole zone.
func (s *server) transfer(q *question) error {
	q.Answer = []string{}
	batches, err := s.Transfer(q.QName, 0)
	if err == transfer.ErrNotAuthoritative {
		q.Rcode = "NOTAUTH"
		return nil
	}
	if err != nil {
		return err
	}
	q.Rcode = "NOERROR"
	for batch := range batches {
		q.Answer = append(q.Answer, lines(batch)...)
	}
	return nil
}

func lines(records []dns.RR) []string {
	texts := make([]string, len(records))
	for at, record := range records {
		texts[at] = strings.ReplaceAll(record.String(), "\t", " ")
	}
	return texts
}

func playLine(api *apiServer, line []byte) (played any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	var f file
	var c config
	if err := json.Unmarshal(line, &f); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(f.Config, &c); err != nil {
		return nil, err
	}
	ask := map[string]func(*server, *question) error{"query": (*server).ask, "transfer": (*server).transfer}[f.Kind]
	if f.Area != "dns" || ask == nil {
		return nil, fmt.Errorf("area %q, kind %q", f.Area, f.Kind)
	}
	s, err := api.start(&c, f.Objects)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	f.Source = "CoreDNS v1.14.7, plugin/kubernetes"
	for at := range f.Cases {
		if err := ask(s, &f.Cases[at]); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// play answers each line with one line: the case played, or {"failed": "why"}.
func play(in io.Reader, out io.Writer) error {
	api, err := startAPI()
	if err != nil {
		return err
	}
	reader := bufio.NewReaderSize(in, 1<<20)
	encoder := json.NewEncoder(out)
	for {
		line, err := reader.ReadBytes('\n')
		if len(line) == 0 && err == io.EOF {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		played, err := playLine(api, line)
		if err != nil {
			played = map[string]string{"failed": err.Error()}
		}
		if err := encoder.Encode(played); err != nil {
			return err
		}
	}
}
