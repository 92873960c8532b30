package main

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// playSelectors fills in what a selector, given as text, as an object or as a plain set, makes of the labels.
func playSelectors(line []byte) (any, error) {
	var file struct {
		Source string                       `json:"source"`
		Area   string                       `json:"area"`
		Cases  []map[string]json.RawMessage `json:"cases"`
	}
	if err := json.Unmarshal(line, &file); err != nil {
		return nil, err
	}
	file.Source = version + " apimachinery, labels.Parse and metav1.LabelSelectorAsSelector"
	for _, c := range file.Cases {
		for key := range c {
			if key != "selector" && key != "set" && key != "labels" {
				delete(c, key)
			}
		}
		if err := playSelector(c); err != nil {
			return nil, err
		}
	}
	return file, nil
}

func playSelector(c map[string]json.RawMessage) error {
	put := func(key string, value any) error {
		text, err := json.Marshal(value)
		c[key] = text
		return err
	}
	given := labels.Set{}
	if text, ok := c["labels"]; ok {
		if err := json.Unmarshal(text, &given); err != nil {
			return err
		}
	}
	selector, err := readSelector(c, put)
	if err != nil {
		return put("error", true)
	}
	if err := put("canonical", selector.String()); err != nil {
		return err
	}
	return put("matches", selector.Matches(given))
}

func readSelector(c map[string]json.RawMessage, put func(string, any) error) (labels.Selector, error) {
	if text, ok := c["set"]; ok {
		var set labels.Set
		if err := json.Unmarshal(text, &set); err != nil {
			return nil, err
		}
		_, err := labels.ValidatedSelectorFromSet(set)
		if err := put("validatedError", err != nil); err != nil {
			return nil, err
		}
		return labels.SelectorFromSet(set), nil
	}
	var text string
	if err := json.Unmarshal(c["selector"], &text); err == nil && string(c["selector"]) != "null" {
		selector, err := labels.Parse(text)
		if err != nil {
			return nil, err
		}
		object, err := metav1.ParseToLabelSelector(text)
		if err != nil {
			return selector, put("labelSelectorError", true)
		}
		return selector, put("labelSelector", object)
	}
	var object *metav1.LabelSelector
	if err := json.Unmarshal(c["selector"], &object); err != nil {
		return nil, err
	}
	if object != nil {
		set, err := metav1.LabelSelectorAsMap(object)
		if err != nil {
			if err := put("asMapError", true); err != nil {
				return nil, err
			}
		} else if err := put("asMap", set); err != nil {
			return nil, err
		}
	}
	return metav1.LabelSelectorAsSelector(object)
}
