package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// kinds has the path of each kind that the plugin lists and watches.
var kinds = map[string]string{
	"Namespace":     "api/v1/namespaces",
	"Pod":           "api/v1/pods",
	"Service":       "api/v1/services",
	"EndpointSlice": "apis/discovery.k8s.io/v1/endpointslices",
	"ServiceImport": "apis/multicluster.x-k8s.io/v1alpha1/serviceimports",
}

// apiServer is as much of an API server as the plugin's client asks for: lists and watches of objects that don't change.
// Each cluster has its own path, so that many can come and go in one process.
type apiServer struct {
	address  string
	mu       sync.Mutex
	clusters map[string]cluster
	made     int
}

// cluster has the objects by the path of their kind.
type cluster map[string][]object

type object struct {
	text   json.RawMessage
	labels labels.Set
	fields fields.Set
}

func startAPI() (*apiServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &apiServer{address: listener.Addr().String(), clusters: map[string]cluster{}}
	go http.Serve(listener, s) //nolint:errcheck // It ends with the process.
	return s, nil
}

// add serves a cluster of these objects; remove ends it.
func (s *apiServer) add(objects []json.RawMessage) (url string, remove func(), err error) {
	c := cluster{}
	for at, text := range objects {
		var head struct {
			Kind     string            `json:"kind"`
			Metadata metav1.ObjectMeta `json:"metadata"`
			Status   struct {
				Phase string `json:"phase"`
			} `json:"status"`
		}
		if err := json.Unmarshal(text, &head); err != nil {
			return "", nil, err
		}
		path, ok := kinds[head.Kind]
		if !ok {
			continue
		}
		if head.Metadata.ResourceVersion == "" {
			if text, err = withVersion(text, at+1); err != nil {
				return "", nil, err
			}
		}
		c[path] = append(c[path], object{
			text:   text,
			labels: head.Metadata.Labels,
			fields: fields.Set{
				"metadata.name": head.Metadata.Name, "metadata.namespace": head.Metadata.Namespace,
				"status.phase": head.Status.Phase,
			},
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	name := strconv.Itoa(s.made)
	s.clusters[name] = c
	return "http://" + s.address + "/" + name, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.clusters, name)
	}, nil
}

func withVersion(text json.RawMessage, version int) (json.RawMessage, error) {
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, err
	}
	metadata, ok := whole["metadata"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("an object without metadata")
	}
	metadata["resourceVersion"] = strconv.Itoa(version)
	return json.Marshal(whole)
}

// lastVersion is that of every list: larger than any object's.
const lastVersion = "1000000"

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	s.mu.Lock()
	objects := s.clusters[name][path]
	s.mu.Unlock()
	query := r.URL.Query()
	byLabels, err := labels.Parse(query.Get("labelSelector"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	byFields, err := fields.ParseSelector(query.Get("fieldSelector"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	chosen := []json.RawMessage{}
	for _, o := range objects {
		if byLabels.Matches(o.labels) && byFields.Matches(o.fields) {
			chosen = append(chosen, o.text)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if query.Get("watch") == "" {
		list(w, path, chosen)
		return
	}
	if query.Get("sendInitialEvents") == "true" {
		for _, text := range chosen {
			fmt.Fprintf(w, `{"type":"ADDED","object":%s}`+"\n", text)
		}
		version, kind := kindOf(path)
		fmt.Fprintf(w, `{"type":"BOOKMARK","object":{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":%q,`+
			`"annotations":{%q:"true"}}}}`+"\n", version, kind, lastVersion, metav1.InitialEventsAnnotationKey)
	}
	if flusher, ok := w.(http.Flusher); ok {
		flusher.Flush()
	}
	// Nothing ever changes.
	<-r.Context().Done()
}

func list(w http.ResponseWriter, path string, items []json.RawMessage) {
	version, kind := kindOf(path)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"apiVersion": version, "kind": kind + "List",
		"metadata": map[string]string{"resourceVersion": lastVersion}, "items": items,
	})
}

func kindOf(path string) (version, kind string) {
	for kind, its := range kinds {
		if its == path {
			group := path[:strings.LastIndexByte(path, '/')]
			return strings.TrimPrefix(strings.TrimPrefix(group, "apis/"), "api/"), kind
		}
	}
	return "v1", "Status"
}
