package runtime

import (
	"context"
	"fmt"
	"strconv"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	events "github.com/containerd/containerd/api/services/events/v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
)

// Happening is something that containerd tells of a container or a sandbox on a host.
type Happening struct {
	ID   string    // of the container or the sandbox
	What string    // "exit", "oom", "start"
	Code int32     // of an exit: 0-255
	At   time.Time // of an exit, by the host's clock
}

// What containerd publishes of containers, and what we publish to know that we are heard. Its namespace for pods is "k8s.io".
const (
	topicExit  = "/tasks/exit"
	topicOOM   = "/tasks/oom"
	topicStart = "/tasks/start"
	topicEcho  = "/berth/follow"
	namespace  = "k8s.io"
)

// echoPatience is how long the answer to our own event may take.
const echoPatience = 10 * time.Second

// Follow tells of everything that happens to containers on a host, until the connection, containerd or ctx ends. Opened is called when
// everything from then on will be told: an event of our own has come back. tell must not block for long.
func Follow(ctx context.Context, h providers.Host, opened func(), tell func(Happening)) error {
	c, err := cri.Connect(h)
	if err != nil {
		return fmt.Errorf("connect to containerd on %s: %w", h.Name(), err)
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace))
	defer cancel()
	client := events.NewEventsClient(c.Conn)
	var filters []string
	for _, topic := range []string{topicExit, topicOOM, topicStart, topicEcho} {
		filters = append(filters, `namespace==`+namespace+`,topic==`+strconv.Quote(topic))
	}
	stream, err := client.Subscribe(ctx, &events.SubscribeRequest{Filters: filters})
	if err != nil {
		return fmt.Errorf("subscribe to events of %s: %w", h.Name(), err)
	}
	mark := strconv.FormatInt(time.Now().UnixNano(), 36)
	heard := make(chan struct{})
	go echo(ctx, client, mark, heard, cancel)
	open := false
	for {
		e, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("read events of %s: %w", h.Name(), err)
		}
		if e.GetTopic() == topicEcho {
			if !open && isEcho(e.GetEvent(), mark) {
				open = true
				close(heard)
				opened()
			}
			continue
		}
		if !open {
			continue // a listing follows
		}
		if w, ok := happening(e.GetTopic(), e.GetEvent()); ok {
			tell(w)
		}
	}
}

// echo publishes our own event until it was heard, and gives up with cancel: whoever was not heard by then follows nothing.
func echo(ctx context.Context, client events.EventsClient, mark string, heard <-chan struct{}, cancel func()) {
	give := time.NewTimer(echoPatience)
	defer give.Stop()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		body, err := anypb.New(&eventsapi.ContainerUpdate{ID: mark}) // any message of containerd's: they are all alike to it
		if err == nil {
			_, err = client.Publish(ctx, &events.PublishRequest{Topic: topicEcho, Event: body})
		}
		if err != nil {
			cancel()
			return
		}
		again := time.NewTimer(pause)
		select {
		case <-heard:
			again.Stop()
			return
		case <-ctx.Done():
			again.Stop()
			return
		case <-give.C:
			again.Stop()
			cancel()
			return
		case <-again.C:
		}
	}
}

func isEcho(body *anypb.Any, mark string) bool {
	var m eventsapi.ContainerUpdate
	return proto.Unmarshal(body.GetValue(), &m) == nil && m.GetID() == mark
}

// happening reads an event. Commands that were run in a container end as well: those are no ends of containers.
func happening(topic string, body *anypb.Any) (Happening, bool) {
	switch topic {
	case topicExit:
		var m eventsapi.TaskExit
		if proto.Unmarshal(body.GetValue(), &m) == nil && m.GetID() == m.GetContainerID() {
			return Happening{ID: m.GetContainerID(), What: "exit", Code: int32(m.GetExitStatus()), At: m.GetExitedAt().AsTime()}, true //nolint:gosec // 0-255
		}
	case topicOOM:
		var m eventsapi.TaskOOM
		if proto.Unmarshal(body.GetValue(), &m) == nil {
			return Happening{ID: m.GetContainerID(), What: "oom"}, true
		}
	case topicStart:
		var m eventsapi.TaskStart
		if proto.Unmarshal(body.GetValue(), &m) == nil {
			return Happening{ID: m.GetContainerID(), What: "start"}, true
		}
	}
	return Happening{}, false
}
