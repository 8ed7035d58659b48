// Command envoy checks the configuration of Envoy that is its argument: every field must be one that
// Envoy's API has, and every value one that its rules allow.
package main

import (
	"errors"
	"log"
	"os"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// validate applies the rules to a message and to those that are packed in it.
func validate(m proto.Message) error {
	var problems []error
	if ruled, ok := m.(interface{ ValidateAll() error }); ok {
		problems = append(problems, ruled.ValidateAll())
	}
	problems = append(problems, protorange.Range(m.ProtoReflect(), func(at protopath.Values) error {
		packed, ok := at.Index(-1).Value.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		if packed, ok := packed.Interface().(*anypb.Any); ok {
			inner, err := packed.UnmarshalNew()
			if err != nil {
				return err
			}
			return validate(inner)
		}
		return nil
	}))
	return errors.Join(problems...)
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	text, err = yaml.YAMLToJSONStrict(text)
	if err != nil {
		log.Fatal(err)
	}
	var config bootstrap.Bootstrap
	if err := errors.Join(protojson.Unmarshal(text, &config), validate(&config)); err != nil {
		log.Fatal(err)
	}
}
