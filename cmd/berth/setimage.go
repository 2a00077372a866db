package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/image"
)

func newSet(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "set", Short: "Change one attribute of a workload, until the configuration says otherwise", RunE: needsSubcommand}
	cmd.AddCommand(newSetImage(g))
	return cmd
}

func newSetImage(g *globals) *cobra.Command {
	var o changeOptions
	cmd := &cobra.Command{
		Use: "image KIND/NAME CONTAINER=IMAGE...", Short: "Run a container from another image",
		Long: `Plans the change from what was last applied, shows it, asks, and rolls it out. The image is an
override: every plan shows it, and editing the container's image in the configuration ends it.
Instead of a container's name, * means all that are no init containers.`,
		Example: "  berth set image deployment/web app=registry.example.com/shop:2.1",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			images, err := imageArguments(args[1:])
			if err != nil {
				return err
			}
			return change(cmd.Context(), g, "set image", o, func(s *api.State) (changeRequest, error) {
				return setImages(g, s, o.namespace, args[0], images)
			})
		},
	}
	o.flags(g, cmd)
	return cmd
}

// containerImage is CONTAINER=IMAGE.
type containerImage struct{ container, ref string }

func imageArguments(args []string) ([]containerImage, error) {
	var out []containerImage
	for _, a := range args {
		name, ref, ok := strings.Cut(a, "=")
		if !ok || name == "" || ref == "" || strings.ContainsAny(ref, " \t\n") {
			return nil, usageError{fmt.Errorf("%q names no image: write CONTAINER=IMAGE, as in app=nginx:1.27", a)}
		}
		out = append(out, containerImage{name, ref})
	}
	return out, nil
}

func setImages(g *globals, s *api.State, namespace, name string, images []containerImage) (changeRequest, error) {
	obj, err := rollable(s, namespace, []string{name})
	if err != nil {
		return changeRequest{}, err
	}
	r := changeRequest{said: objectName(obj) + " image updated"}
	r.Targets = []string{obj.Address.String()}
	configured, err := obj.Configured(s.OverridesOf(obj.Address))
	if err != nil {
		return changeRequest{}, err
	}
	spec := &api.TemplateOf(obj.Value).Spec
	for _, i := range images {
		paths := imagePaths(spec, i.container)
		if len(paths) == 0 {
			return changeRequest{}, fail("Not found", fmt.Sprintf("Unable to find container named %q in %s. It has %s.", i.container, obj.Address, containerList(spec)))
		}
		for _, path := range paths {
			if err := r.setImage(g, s, obj, configured, path, i.ref); err != nil {
				return changeRequest{}, err
			}
		}
	}
	return r, nil
}

// setImage puts an override of one image into the request, or takes the one in force back where the configuration says the
// same.
func (r *changeRequest) setImage(g *globals, s *api.State, obj, configured *api.Object, path, ref string) error {
	v, err := g.override(obj, path, path, ref, "berth set image")
	if err != nil {
		return err
	}
	now, err := obj.At(path)
	if err != nil {
		return err
	}
	wants, err := configured.At(path)
	switch {
	case err != nil:
		return err
	case string(now) == string(v.Value):
	case string(wants) == string(v.Value) && overrides(s, v.Key()):
		r.Reset = append(r.Reset, v.Key())
	default:
		r.Overrides = append(r.Overrides, v)
		if !strings.HasPrefix(ref, image.Domain+"/") {
			r.resolve = append(r.resolve, use{ref: ref, address: obj.Address})
		}
	}
	return nil
}

func overrides(s *api.State, k api.OverrideKey) bool {
	for _, o := range s.Overrides {
		if o.Key() == k {
			return true
		}
	}
	return false
}

// imagePaths are the paths of the images of a container by name; * means all containers but those that run first.
func imagePaths(spec *corev1.PodSpec, name string) []string {
	var out []string
	for _, l := range []struct {
		list string
		of   []corev1.Container
	}{{"initContainers", spec.InitContainers}, {"containers", spec.Containers}} {
		for _, c := range l.of {
			if c.Name == name || name == "*" && l.list == "containers" {
				out = append(out, fmt.Sprintf("%s.spec.%s[%s].image", templatePath, l.list, c.Name))
			}
		}
	}
	return out
}

func containerList(spec *corev1.PodSpec) string {
	var names []string
	for _, c := range spec.Containers {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}
