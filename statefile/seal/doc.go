// Package seal encrypts state, journal, backups and plan files where they lie, in the manner of OpenTofu: key providers, methods,
// fallbacks for rotation. [Wrap] puts it around any store; whoever reads through it sees plain documents, and nobody else does.
//
// It neither decides what is in a document nor keeps keys: those come from the environment, from files, or from a command, and
// are never written. An encrypted document hides its content, not its size, and an older one that is put back in its place
// is as good as before: serial and lineage, which stand beside it in the clear, are compared with those inside.
//
// Start with [New], then envelope.go for the format of documents and lines.go for that of the journal.
package seal
