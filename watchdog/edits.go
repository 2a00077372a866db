package watchdog

import "time"

// edit is what is known of the configuration.
type edit struct {
	reading bool
	next    time.Time
	version string
	known   bool
	err     string
}

func (m *Mind) onEditTime() {
	if m.opts.Sourced && !m.edit.reading && !m.now.Before(m.edit.next) {
		m.edit.reading = true
		m.do(ReadSource{})
	}
}

func (m *Mind) editNext() time.Time {
	if !m.opts.Sourced || m.edit.reading {
		return time.Time{}
	}
	return m.edit.next
}

// edited plans again when the configuration has changed.
func (m *Mind) edited(f Edited) {
	m.edit.reading, m.edit.next = false, m.now.Add(m.opts.Reread)
	if f.Err != nil {
		if f.Err.Error() != m.edit.err {
			m.edit.err = f.Err.Error()
			m.say(true, "", "ConfigurationNotRead", f.Err.Error())
		}
		return
	}
	m.edit.err = ""
	if m.edit.known && m.edit.version != f.Version {
		m.wantRound("the configuration has changed")
	}
	m.edit.known, m.edit.version = true, f.Version
}
