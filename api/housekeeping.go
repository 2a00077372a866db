package api

import "time"

// Housekeeping says when a watchdog takes away what has no use any more on a node. Names, units and defaults are those of the
// kubelet's configuration (KubeletConfiguration v1beta1).
type Housekeeping struct {
	// ContainerLogMaxSize is the size in bytes beyond which a log is rotated; ContainerLogMaxFiles how many files are kept of each run of a
	// container, the one that is written included (at least 2).
	ContainerLogMaxSize  int64 `json:"container_log_max_size"`
	ContainerLogMaxFiles int   `json:"container_log_max_files"`
	// Images that nothing uses go, those that were used last first, when the file system of images is fuller than the high threshold, until
	// it is no fuller than the low one; in percent. A high threshold of 100 switches this off.
	ImageGCHighThresholdPercent int `json:"image_gc_high_threshold_percent"`
	ImageGCLowThresholdPercent  int `json:"image_gc_low_threshold_percent"`
	// ImageMinimumGCAge is for how many seconds an image stays though nothing uses it; ImageMaximumGCAge after how many seconds without use it goes
	// though there is room, 0 for never.
	ImageMinimumGCAge int64 `json:"image_minimum_gc_age"`
	ImageMaximumGCAge int64 `json:"image_maximum_gc_age,omitempty"`
}

// DefaultHousekeeping is what counts where a cluster has no housekeeping block.
var DefaultHousekeeping = Housekeeping{
	ContainerLogMaxSize: 10 << 20, ContainerLogMaxFiles: 5,
	ImageGCHighThresholdPercent: 85, ImageGCLowThresholdPercent: 80, ImageMinimumGCAge: int64(2 * time.Minute / time.Second),
}

// HousekeepingOrDefault is what counts for a cluster.
func (c Cluster) HousekeepingOrDefault() Housekeeping {
	if c.Housekeeping == nil {
		return DefaultHousekeeping
	}
	return *c.Housekeeping
}
