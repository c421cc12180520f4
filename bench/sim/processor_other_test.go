//go:build !unix

package sim

import "time"

// processor returns 0: nobody says it on this system.
func processor() time.Duration { return 0 }
