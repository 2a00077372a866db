package simhost

import (
	"context"
	"strings"

	"github.com/containerd/containerd/api/events"
	eventsv1 "github.com/containerd/containerd/api/services/events/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

type event = types.Envelope

// LoseEvents has the next n events reach nobody.
func (h *Host) LoseEvents(n int) {
	h.cd.mu.Lock()
	defer h.cd.mu.Unlock()
	h.cd.lose = n
}

// RepeatEvents has the next n events told twice.
func (h *Host) RepeatEvents(n int) {
	h.cd.mu.Lock()
	defer h.cd.mu.Unlock()
	h.cd.twice = n
}

// publish tells of a container, with c.mu held. Who does not listen fast enough loses his stream, as with containerd.
func (c *containerd) publish(topic string, x *container) {
	var msg proto.Message
	switch topic {
	case "/tasks/start":
		msg = &events.TaskStart{ContainerID: x.id, Pid: 1}
	case "/tasks/exit":
		msg = &events.TaskExit{ContainerID: x.id, ID: x.id, Pid: 1, ExitStatus: uint32(x.code), ExitedAt: timestamppb.New(x.finished)} //nolint:gosec // an exit code
	case "/tasks/oom":
		msg = &events.TaskOOM{ContainerID: x.id}
	case "/tasks/delete":
		msg = &events.TaskDelete{ContainerID: x.id, Pid: 1, ExitStatus: uint32(x.code), ExitedAt: timestamppb.New(x.finished)} //nolint:gosec // an exit code
	case "/containers/create":
		msg = &events.ContainerCreate{ID: x.id, Image: x.config.GetImage().GetImage()}
	case "/containers/delete":
		msg = &events.ContainerDelete{ID: x.id}
	}
	value, err := proto.Marshal(msg)
	must(err)
	c.send(&event{
		Timestamp: timestamppb.New(now()), Namespace: namespace, Topic: topic,
		Event: &anypb.Any{TypeUrl: string(msg.ProtoReflect().Descriptor().FullName()), Value: value},
	})
}

// namespace is that of CRI's containers.
const namespace = "k8s.io"

// send tells an event, with c.mu held.
func (c *containerd) send(e *event) {
	if c.lose > 0 {
		c.lose--
		return
	}
	times := 1
	if c.twice > 0 {
		c.twice--
		times = 2
	}
	for n, ch := range c.streams {
		for range times {
			select {
			case ch <- e:
			default:
				close(ch)
				delete(c.streams, n)
			}
			if c.streams[n] == nil {
				break
			}
		}
	}
}

// eventService is containerd's event API.
type eventService struct {
	eventsv1.UnimplementedEventsServer
	c *containerd
}

// Publish tells an event of the caller's.
func (s *eventService) Publish(ctx context.Context, req *eventsv1.PublishRequest) (*emptypb.Empty, error) {
	ns := metadata.ValueFromIncomingContext(ctx, "containerd-namespace")
	if len(ns) == 0 {
		return nil, status.Error(codes.FailedPrecondition, "namespace is required")
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.send(&event{Timestamp: timestamppb.New(now()), Namespace: ns[0], Topic: req.GetTopic(), Event: req.GetEvent()})
	return &emptypb.Empty{}, nil
}

// Subscribe sends events until the stream ends.
func (s *eventService) Subscribe(req *eventsv1.SubscribeRequest, stream eventsv1.Events_SubscribeServer) error {
	c := s.c
	ch := make(chan *event, 4096)
	c.mu.Lock()
	c.nextStream++
	n := c.nextStream
	c.streams[n] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.streams, n)
		c.mu.Unlock()
	}()
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for {
		select {
		case e, ok := <-ch:
			if !ok {
				return status.Error(codes.Unavailable, "the stream of events has ended")
			}
			if wanted(req.GetFilters(), e) {
				if err := stream.Send(e); err != nil {
					return err
				}
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// wanted knows filters made of topic==, topic~= with a prefix, and namespace==, joined by commas.
func wanted(filters []string, e *event) bool {
	if len(filters) == 0 {
		return true
	}
	for _, f := range filters {
		all := true
		for cond := range strings.SplitSeq(f, ",") {
			key, value, ok := strings.Cut(cond, "==")
			exact := ok
			if !ok {
				key, value, _ = strings.Cut(cond, "~=")
			}
			value = strings.Trim(value, `"^.*`)
			field := map[string]string{"topic": e.GetTopic(), "namespace": e.GetNamespace()}[key]
			all = all && (exact && field == value || !exact && strings.HasPrefix(field, value))
		}
		if all {
			return true
		}
	}
	return false
}
