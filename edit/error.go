package edit

// Kind is what kept an Edit from its place.
type Kind string

const (
	NoFunction        Kind = "no function"
	AmbiguousFunction Kind = "ambiguous function"
	NoLandmark        Kind = "no landmark"
	AmbiguousLandmark Kind = "ambiguous landmark"
	WrongSurroundings Kind = "wrong surroundings"
	AlreadyThere      Kind = "already there"
	ConflictMarks     Kind = "conflict marks"
	Unreadable        Kind = "unreadable"
)

// Error tells what was looked for, where, and what was found instead. What to
// do next is for the command to say.
type Error struct {
	Kind        Kind
	File        string
	Line        int    // where the trouble is, from 1; 0 = no line in particular
	Function    string // "" for lines of text
	Section     string
	Landmark    string // the alternatives, joined with " or "
	Problem     string // what was found instead, for people
	Nearest     string // the nearest candidate, "" = none is near
	NearestLine int
	Matches     int // how many places matched
}

func (e *Error) Error() string { return e.File + ": " + e.Problem }
