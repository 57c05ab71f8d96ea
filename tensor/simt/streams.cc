// A queue a stream; what must come before is run first, by whoever has to see a result.
#include "tensor/simt/streams.h"

#include <chrono>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tensor/simt/device_memory.h"
#include "tensor/simt/device_model.h"
#include "tensor/simt/engine.h"
#include "tensor/simt/graphs.h"
#include "tensor/simt/simt.h"

namespace mullion::simt {
namespace {

struct Item {
  Work work;
  bool is_free;
  Ready ready = {};  // none: at once
};
enum class Host { waits, goes_on };  // where an item is not ready
// The work of one stream, numbered from 1.
struct Queue {
  int device = 0;
  bool non_blocking = false;
  std::deque<Item> items;
  uint64_t asked = 0, done = 0;
  uint64_t id = 0, pieces = 0;  // for the order of streams
  Clock known;

  void run_until(uint64_t number, Host host = Host::waits) {
    const DeviceAccess access;
    while (done < number && !items.empty()) {
      try {
        if (items.front().ready && !items.front().ready()) {
          if (host == Host::goes_on) return;
          std::this_thread::sleep_for(std::chrono::microseconds(50));
          continue;
        }
        const Item item = std::move(items.front());
        items.pop_front();
        ++done;
        item.work();
      } catch (...) {  // the rest would compute with what is not there
        std::deque<Item> rest = std::move(items);
        items.clear();
        done = asked;
        for (const Item& later : rest)
          if (later.is_free) later.work();
        throw;
      }
    }
  }
};

bool late_by_environment() {
  const char* text = std::getenv("MULLION_SIMT_STREAMS");
  const std::string mode = text ? text : "eager";
  CHECK(mode == "eager" || mode == "late", "MULLION_SIMT_STREAMS is eager or late, not ", mode);
  return mode == "late";
}

struct State {
  State() { set_host_trap(late); }
  bool late = late_by_environment();
  std::map<int, std::shared_ptr<Queue>> legacy;  // each device's default stream
  std::vector<std::shared_ptr<Queue>> queues;
  uint64_t ids = 0;
  Clock host;  // what the host has waited for

  std::shared_ptr<Queue> add(int device, bool non_blocking) {
    queues.push_back(std::make_shared<Queue>());
    queues.back()->device = device;
    queues.back()->non_blocking = non_blocking;
    queues.back()->id = ++ids;
    return queues.back();
  }
};
State& state() {
  static State* the_state = new State;  // never destroyed: tensors may outlive main
  return *the_state;
}

}  // namespace
}  // namespace mullion::simt

struct SimtStream {
  std::shared_ptr<mullion::simt::Queue> queue;
};
struct SimtEvent {
  int device;
  std::shared_ptr<mullion::simt::Queue> queue;
  uint64_t number = 0;  // complete when the queue has done as much
  mullion::simt::Clock known = {};
  std::chrono::steady_clock::time_point recorded{};

  bool is_complete() const { return !queue || queue->done >= number; }
};

namespace mullion::simt {
namespace {
thread_local int current = 0;  // the thread's device

const std::shared_ptr<Queue>& shared_queue_of(cudaStream_t stream) {
  if (stream) return stream->queue;
  std::shared_ptr<Queue>& legacy = state().legacy[current];
  if (!legacy) legacy = state().add(current, false);
  return legacy;
}
Queue& queue_of(cudaStream_t stream) { return *shared_queue_of(stream); }

void finish_queue(Queue& queue) {
  queue.run_until(queue.asked);
  join(state().host, queue.known);
}
void finish_streams_if(bool (*chosen)(const Queue&)) {
  const auto queues = state().queues;
  for (const auto& queue : queues)
    if (chosen(*queue)) finish_queue(*queue);
}

// The next piece of work of a stream: after all that the host has seen, and, between the legacy
// stream and those that it blocks, after what is asked for there.
Moment next_moment(Queue& queue, const char* what) {
  join(queue.known, state().host);
  const Queue* legacy = state().legacy[queue.device].get();
  for (const auto& other : state().queues)
    if (other->device == queue.device && other.get() != &queue && !other->non_blocking &&
        !queue.non_blocking && (other.get() == legacy || &queue == legacy))
      join(queue.known, other->known);
  queue.known[queue.id] = ++queue.pieces;
  return {what, queue.device, queue.id, queue.pieces};
}

void run_or_wait(Queue& queue, Item item) {
  ++queue.asked;
  if (!state().late && queue.items.empty() && !item.ready) {
    const DeviceAccess access;
    ++queue.done;
    return item.work();
  }
  queue.items.push_back(std::move(item));
  if (!state().late) queue.run_until(queue.asked, Host::goes_on);
}
}  // namespace

void enqueue(cudaStream_t stream, const char* what, const Uses& uses, Work work) {
  if (capture_work(stream, what, uses, work)) return;
  Queue& queue = queue_of(stream);
  const Moment now = next_moment(queue, what);
  for (const Use& use : uses) note_use(use, now, queue.known);
  run_or_wait(queue, {std::move(work), false});
}
void enqueue_when(cudaStream_t stream, const char* what, const Uses& uses, Ready ready, Work work) {
  if (is_capturing(stream)) report(concat(what, ": within a capture, which is not emulated"));
  Queue& queue = queue_of(stream);
  const Moment now = next_moment(queue, what);
  for (const Use& use : uses) note_use(use, now, queue.known);
  run_or_wait(queue, {std::move(work), false, std::move(ready)});
}
void enqueue_free(cudaStream_t stream, void* pointer) {
  Queue& queue = queue_of(stream);
  note_free(pointer, next_moment(queue, "cudaFreeAsync"), queue.known);
  run_or_wait(queue, {[pointer] { device_free(pointer); }, true});
}
Moment moment_of(cudaStream_t stream, const char* what) {
  return next_moment(queue_of(stream), what);
}

void finish(cudaStream_t stream) { finish_queue(queue_of(stream)); }
void finish_blocking_streams() {
  finish_streams_if([](const Queue& q) { return q.device == current && !q.non_blocking; });
}
void finish_all_streams() {
  finish_streams_if([](const Queue&) { return true; });
}
int device_of(cudaStream_t stream) { return stream ? stream->queue->device : current; }
int current_device() { return current; }
bool is_blocking(cudaStream_t stream) { return !queue_of(stream).non_blocking; }

void set_late_streams(bool late) {
  finish_all_streams();
  state().late = late;
  set_host_trap(late);
}
bool late_streams() { return state().late; }

}  // namespace mullion::simt

using namespace mullion::simt;

cudaError_t cudaGetDevice(int* device) {
  *device = current;
  return refusal("cudaGetDevice");
}
cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t error = refusal("cudaSetDevice")) return error;
  if (device < 0 || device >= device_model().devices) return cudaErrorInvalidDevice;
  current = device;
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (const cudaError_t error = refusal("cudaStreamCreateWithFlags")) return error;
  *stream = new SimtStream{state().add(current, flags & cudaStreamNonBlocking)};
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (const cudaError_t error = refusal("cudaStreamDestroy", &stream)) return error;
  finish(stream);
  std::erase(state().queues, stream->queue);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t error = refusal("cudaStreamSynchronize", &stream)) return error;
  finish(stream);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t error = refusal("cudaDeviceSynchronize")) return error;
  finish_streams_if([](const Queue& q) { return q.device == current; });
  return cudaSuccess;
}
// A query that says "not yet" moves the stream on by one piece, lest who asks again and again waits
// for ever.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (const cudaError_t error = refusal("cudaStreamQuery", &stream)) return error;
  Queue& queue = queue_of(stream);
  if (queue.items.empty()) {
    join(state().host, queue.known);
    return cudaSuccess;
  }
  queue.run_until(queue.done + 1, Host::goes_on);
  return cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (const cudaError_t error = refusal("cudaStreamWaitEvent")) return error;
  if (is_capturing(stream)) report("cudaStreamWaitEvent: within a capture, which is not emulated");
  join(queue_of(stream).known, event->known);
  if (!event->is_complete())
    enqueue_when(
        stream, "cudaStreamWaitEvent", {},
        [queue = event->queue, number = event->number] {
          queue->run_until(number, Host::goes_on);
          return queue->done >= number;
        },
        [] {});
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (const cudaError_t error = refusal("cudaEventCreateWithFlags")) return error;
  *event = new SimtEvent{current, nullptr};
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return refusal("cudaEventDestroy");
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t error = refusal("cudaEventRecord")) return error;
  if (is_capturing(stream)) report("cudaEventRecord: within a capture, which is not emulated");
  if (device_of(stream) != event->device) return cudaErrorInvalidResourceHandle;
  event->queue = shared_queue_of(stream);
  event->number = event->queue->asked;
  event->known = event->queue->known;
  event->recorded = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const cudaError_t error = refusal("cudaEventSynchronize")) return error;
  if (event->queue) event->queue->run_until(event->number);
  join(state().host, event->known);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const cudaError_t error = refusal("cudaEventQuery")) return error;
  if (event->is_complete()) {
    join(state().host, event->known);
    return cudaSuccess;
  }
  event->queue->run_until(event->queue->done + 1, Host::goes_on);
  return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->recorded - start->recorded).count();
  return refusal("cudaEventElapsedTime");
}
