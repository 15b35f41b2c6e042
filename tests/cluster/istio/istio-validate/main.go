// istio-validate reads YAML documents on stdin and judges each object of networking.istio.io by Istio's own rules, those
// that istiod's admission webhook and `istioctl validate` apply: the CRD's schema lets through what Istio then refuses,
// such as a wildcard host bound to the mesh. Other objects are passed over.
//
// A finding is a line, KIND/NAME: message; a mere warning has "warning: " before the message. Exit 1 on any error.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/go-multierror"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/validation"
)

func main() {
	reader := kubeyaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	faulty := false
	for number := 1; ; number++ {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		object := unstructured.Unstructured{}
		if err == nil {
			// Strict: a key given twice is a mistake that Kubernetes would not tell of.
			err = yaml.UnmarshalStrict(document, &object.Object)
		}
		if err != nil {
			fmt.Printf("document %d: %v\n", number, err)
			os.Exit(1)
		}
		warnings, err := judge(&object)
		tell(&object, "warning: ", warnings)
		tell(&object, "", err)
		faulty = faulty || err != nil
	}
	if faulty {
		os.Exit(1)
	}
}

func judge(object *unstructured.Unstructured) (validation.Warning, error) {
	kind := object.GroupVersionKind()
	if kind.Group != "networking.istio.io" {
		return nil, nil
	}
	schema, known := collections.Pilot.FindByGroupVersionAliasesKind(
		config.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind})
	if !known {
		return nil, fmt.Errorf("Istio has no kind %s in %s", kind.Kind, object.GetAPIVersion())
	}
	for field := range object.Object {
		switch field {
		case "apiVersion", "kind", "metadata", "spec", "status":
		default:
			return nil, fmt.Errorf("unknown field %q", field)
		}
	}
	text, err := json.Marshal(object.Object["spec"])
	if err != nil {
		return nil, err
	}
	spec, err := schema.NewInstance()
	if err != nil {
		return nil, err
	}
	// Strict, as istioctl: istiod itself drops an unknown field without a word.
	if err := config.ApplyJSONStrict(spec, string(text)); err != nil {
		return nil, err
	}
	namespace := object.GetNamespace()
	if namespace == "" {
		namespace = "default"
	}
	return schema.ValidateConfig(config.Config{
		Meta: config.Meta{
			GroupVersionKind: schema.GroupVersionKind(), Name: object.GetName(), Namespace: namespace,
			Labels: object.GetLabels(), Annotations: object.GetAnnotations(),
		},
		Spec: spec,
	})
}

func tell(object *unstructured.Unstructured, prefix string, findings error) {
	if findings == nil {
		return
	}
	for _, finding := range multierror.Append(nil, findings).Errors {
		fmt.Printf("%s/%s: %s%v\n", object.GetKind(), object.GetName(), prefix, finding)
	}
}
