package main

import (
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apifield "k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	netv1 "k8s.io/kubernetes/pkg/apis/networking/v1"
	netvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
)

type validationFile struct {
	Source string            `json:"source"`
	Area   string            `json:"area"`
	Cases  []*validationCase `json:"cases"`
}

// validationCase is an object as sent, and what the API server makes of it.
type validationCase struct {
	Name      string          `json:"name"`
	Stage     string          `json:"stage"`
	Object    json.RawMessage `json:"object"`
	Old       json.RawMessage `json:"old,omitempty"`
	Defaulted any             `json:"defaulted,omitempty"`
	Valid     bool            `json:"valid"`
	Errors    []problem       `json:"errors,omitempty"`
	// Lenient is set where an old policy that has label values which no label can have may keep them.
	Lenient bool `json:"allowInvalidLabelValueInSelector"`
}

type problem struct {
	Field  string             `json:"field"`
	Type   apifield.ErrorType `json:"type"`
	Detail string             `json:"detail"`
}

func (c *validationCase) found(errors apifield.ErrorList) {
	c.Errors = nil
	for _, e := range errors {
		c.Errors = append(c.Errors, problem{e.Field, e.Type, e.Detail})
	}
	c.Valid = len(c.Errors) == 0
}

func playValidation(line []byte) (any, error) {
	var file validationFile
	if err := json.Unmarshal(line, &file); err != nil {
		return nil, err
	}
	validate := validateService
	if file.Area == "policy-validation" {
		validate = validatePolicy
	}
	file.Source = version + ", static defaults and API validation"
	for _, c := range file.Cases {
		if err := validate(c); err != nil {
			return nil, err
		}
	}
	return file, nil
}

// service reads a Service, with defaults if wanted, and gives the API server's own form of it, too.
func service(text []byte, defaults bool) (*v1.Service, *core.Service, error) {
	sent, internal := &v1.Service{}, &core.Service{}
	if err := json.Unmarshal(text, sent); err != nil {
		return nil, nil, err
	}
	if defaults {
		corev1.SetObjectDefaults_Service(sent)
	}
	return sent, internal, corev1.Convert_v1_Service_To_core_Service(sent.DeepCopy(), internal, nil)
}

func validateService(c *validationCase) error {
	defaulted, object, err := service(c.Object, true)
	if err != nil {
		return err
	}
	c.Defaulted = defaulted
	switch c.Stage {
	case "default+create":
		c.found(corevalidation.ValidateServiceCreate(object))
		return nil
	case "default+update":
		_, old, err := service(c.Old, false)
		if err != nil {
			return err
		}
		c.found(corevalidation.ValidateServiceUpdate(object, old))
		return nil
	}
	return fmt.Errorf("stage %q", c.Stage)
}

func policy(text []byte, defaults bool) (*networkingv1.NetworkPolicy, *networking.NetworkPolicy, error) {
	sent, internal := &networkingv1.NetworkPolicy{}, &networking.NetworkPolicy{}
	if err := json.Unmarshal(text, sent); err != nil {
		return nil, nil, err
	}
	if defaults {
		netv1.SetObjectDefaults_NetworkPolicy(sent)
	}
	return sent, internal, netv1.Convert_v1_NetworkPolicy_To_networking_NetworkPolicy(sent.DeepCopy(), internal, nil)
}

func validatePolicy(c *validationCase) error {
	defaulted, object, err := policy(c.Object, true)
	if err != nil {
		return err
	}
	c.Defaulted = defaulted
	switch c.Stage {
	case "default+create":
		options := netvalidation.ValidationOptionsForNetworking(object, nil)
		c.Lenient = options.AllowInvalidLabelValueInSelector
		c.found(netvalidation.ValidateNetworkPolicy(object, options))
		return nil
	case "default+update":
		_, old, err := policy(c.Old, false)
		if err != nil {
			return err
		}
		options := netvalidation.ValidationOptionsForNetworking(object, old)
		c.Lenient = options.AllowInvalidLabelValueInSelector
		c.found(netvalidation.ValidateNetworkPolicyUpdate(object, old, options))
		return nil
	}
	return fmt.Errorf("stage %q", c.Stage)
}
