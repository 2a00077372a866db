package api

// UsersPerPod is how many users a pod has of its own with hostUsers: false, numbered from 0, and how many of the node's stand behind
// them: as many as every program counts on.
const UsersPerPod = 65536
