package hcl

import (
	"runtime"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"golang.org/x/sync/errgroup"

	"berth.dev/berth/api"
)

// buildImages builds the images of some blocks, in parallel, and notes their references.
func (e *evaluation) buildImages(batch []*vertex) hcl2.Diagnostics {
	var objects []*api.Object
	for _, x := range batch {
		if b := e.blocks[x.id]; b != nil && !x.failed {
			objects = append(objects, b.objects...)
		}
	}
	errs := make([]error, len(objects))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, o := range objects {
		group.Go(func() error {
			errs[i] = e.buildImage(o.Value.(*api.Image))
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs
	broken := map[api.Address]bool{}
	for i, err := range errs {
		if err != nil {
			o := objects[i]
			broken[o.Address.Base()] = true
			r := o.Range
			e.found = append(e.found, api.Diagnostic{
				Severity: api.SeverityError, Summary: "Image not built", Address: o.Address.String(), Range: &r,
				Detail: "The image " + o.Name() + " cannot be built: " + strings.TrimSuffix(err.Error(), ".") + ".",
			})
		}
	}
	for _, x := range batch {
		x.failed = x.failed || broken[x.block.address]
		if !x.failed {
			x.value = e.blockValue(x, e.blocks[x.id])
		}
	}
	return nil
}

// buildImage makes the image. Its sources stay as they are written: an image is the same in everyone's checkout.
func (e *evaluation) buildImage(image *api.Image) error {
	if e.opts.BuildImage == nil {
		image.Ref = "berth.local/" + image.Name + "@sha256:" + strings.Repeat("0", 64)
		return nil
	}
	ref, err := e.opts.BuildImage(e.ctx, image)
	image.Ref = ref
	return err
}
