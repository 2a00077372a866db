package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
)

func newHistory(g *globals) *cobra.Command {
	var asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use: "history [SERIAL]", Short: "List what was applied, by whom, when and from where", Args: cobra.MaximumNArgs(1),
		Long: `Lists the applies that the state remembers, the newest first, or shows one. Their numbers
are the serials of the state: berth diff shows in what two of them differ, and berth rollback
goes back to one. How many are kept, and how long, is said in the retention block.`,
		Example: "  berth history\n  berth history 41\n  berth history --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = asJSON
			if limit < 0 {
				return usageError{fmt.Errorf("--limit %d: give how many to list, or 0 for all", limit)}
			}
			return runHistory(cmd.Context(), g, args, limit, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().IntVar(&limit, "limit", 0, "list only this `many`")
	cmd.ValidArgsFunction = g.completions(serials)
	return cmd
}

// serials are the numbers of the history.
func serials(s *api.State) []string {
	var out []string
	for _, r := range slices.Backward(s.History) {
		out = append(out, strconv.FormatUint(r.Serial, 10))
	}
	return out
}

func runHistory(ctx context.Context, g *globals, args []string, limit int, asJSON bool) error {
	state, err := readState(ctx, g)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		m, err := momentOf(state, args[0])
		if err != nil {
			return err
		}
		return showRecord(g, m, asJSON)
	}
	list := slices.Clone(state.History)
	slices.Reverse(list)
	if limit > 0 {
		list = list[:min(limit, len(list))]
	}
	if asJSON {
		out := []map[string]any{}
		for _, r := range list {
			out = append(out, view.RecordJSON(r))
		}
		return printJSON(g, out)
	}
	if len(list) == 0 {
		g.out.Println("The history is empty. Nothing was applied yet.")
		return nil
	}
	var rows [][]string
	for _, r := range list {
		rows = append(rows, []string{strconv.FormatUint(r.Serial, 10), r.At.UTC().Format("2006-01-02 15:04:05"), r.Who, operationOf(r), r.Outcome.String(), r.Summary})
	}
	g.out.Table([]string{"SERIAL", "WHEN (UTC)", "WHO", "OPERATION", "OUTCOME", "SUMMARY"}, rows)
	return nil
}

func operationOf(r api.ApplyRecord) string {
	if r.Operation == "" {
		return "apply"
	}
	return r.Operation
}

// momentOf finds an entry of the history by its serial.
func momentOf(s *api.State, text string) (*api.Moment, error) {
	serial, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, usageError{fmt.Errorf("%q is no serial: berth history lists them", text)}
	}
	m := s.Moment(serial)
	if m == nil {
		known := "It is empty"
		if n := len(s.History); n > 0 {
			known = fmt.Sprintf("It goes from %d to %d", s.History[0].Serial, s.History[n-1].Serial)
		}
		return nil, fail("Not in the history", fmt.Sprintf("The history has no apply with serial %d. %s; berth history lists it, and the retention block says how much is kept.", serial, known))
	}
	return m, nil
}

func showRecord(g *globals, m *api.Moment, asJSON bool) error {
	r := m.Record
	if asJSON {
		out := view.RecordJSON(r)
		var objects []string
		for _, o := range m.Objects {
			objects = append(objects, o.Address.String())
		}
		out["objects"], out["images"] = objects, m.Pins
		return printJSON(g, out)
	}
	g.out.Printf("Serial:     %d\nWhen:       %s\nWho:        %s\n", r.Serial, r.At.UTC().Format("2006-01-02 15:04:05 UTC"), r.Who)
	for _, line := range [][2]string{{"From:      ", r.From}, {"CI job:    ", r.Job}, {"Operation: ", operationOf(r)}, {"Outcome:   ", r.Outcome.String()}, {"Summary:   ", r.Summary}} {
		if line[1] != "" {
			g.out.Println(line[0] + " " + line[1])
		}
	}
	if r.Undo != nil && len(r.Undo.Objects) > 0 {
		var changed []string
		for _, o := range r.Undo.Objects {
			changed = append(changed, o.Address.String())
		}
		g.out.Println("Changed:    " + strings.Join(changed, ", "))
	}
	var objects []string
	for _, o := range m.Objects {
		objects = append(objects, o.Address.String())
	}
	g.out.Println("Objects:    " + or(strings.Join(objects, ", "), "none"))
	for _, p := range m.Pins {
		g.out.Println("# " + p.Ref + " was " + view.ShortImage(p.Pinned))
	}
	return nil
}
