/* Captures and graphs: what goes into a graph, and what a capture forbids, by the rules of the CUDA Runtime API's
 * "Stream Management" (cudaStreamBeginCapture, cudaThreadExchangeStreamCaptureMode). A call that is forbidden breaks
 * the capture: all that follows on its streams is refused, and its end gives no graph.
 */
#include <pthread.h>
#include <stdlib.h>

#include "card.h"

struct capture {
    unsigned long long id;
    enum cudaStreamCaptureMode mode;
    pthread_t thread;
    bool broken, over; /* an event may name a capture that is over */
    long work[WORK_COUNT];
    cudaStream_t streams;
    struct capture *next;
};

struct CUgraph_st {
    long work[WORK_COUNT];
};

struct CUgraphExec_st {
    long work[WORK_COUNT];
};

static struct capture *captures;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static __thread enum cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;

static long nodes(const long *work) {
    return work[KERNEL] + work[COPY] + work[FILL] + work[OTHER];
}

/* ---- What is forbidden ---- */

static cudaError_t refused(cudaError_t error) {
    count(COUNT_refused);
    return failed(error);
}

static bool active(const struct capture *capture) {
    return !capture->over;
}

cudaError_t unsafe(void) {
    bool forbidden = false;
    if (mode == cudaStreamCaptureModeRelaxed || !__atomic_load_n(&captures, __ATOMIC_ACQUIRE))
        return cudaSuccess;
    pthread_mutex_lock(&mutex);
    for (struct capture *each = captures; each; each = each->next) {
        bool own = pthread_equal(each->thread, pthread_self());
        bool heeds = own ? each->mode != cudaStreamCaptureModeRelaxed
                         : mode == cudaStreamCaptureModeGlobal && each->mode == cudaStreamCaptureModeGlobal;
        if (active(each) && heeds)
            each->broken = forbidden = true;
    }
    pthread_mutex_unlock(&mutex);
    return forbidden ? refused(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t unsafe_on(cudaStream_t stream) {
    struct capture *capture = stream_of(stream)->capture;
    if (!capture)
        return unsafe();
    capture->broken = true;
    return refused(cudaErrorStreamCaptureUnsupported);
}

cudaError_t unsafe_at(cudaEvent_t event) {
    if (!event->capture)
        return unsafe();
    event->capture->broken = true;
    return refused(cudaErrorCapturedEvent);
}

/* ---- What goes into a capture ---- */

cudaError_t enqueue(cudaStream_t handle, enum work work, bool *captured) {
    cudaStream_t stream = stream_of(handle);
    struct capture *capture = stream->capture;
    *captured = capture;
    if (!capture)
        return cudaSuccess;
    if (capture->broken)
        return refused(cudaErrorStreamCaptureInvalidated);
    capture->work[work]++;
    stream->captured++;
    return cudaSuccess;
}

static void join(cudaStream_t stream, struct capture *capture) {
    stream->capture = capture;
    stream->captured = stream->joined = 0;
    stream->next = capture->streams;
    capture->streams = stream;
}

cudaError_t record_in_capture(cudaStream_t stream, cudaEvent_t event) {
    if (stream->capture && stream->capture->broken)
        return refused(cudaErrorStreamCaptureInvalidated);
    event->capture = stream->capture;
    event->stream = stream;
    event->captured = stream->captured;
    return cudaSuccess;
}

cudaError_t wait_in_capture(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    struct capture *capture = event->capture;
    if (capture && capture->over)
        return refused(cudaErrorCapturedEvent);
    if (stream->capture && stream->capture != capture) {
        if (flags & cudaEventWaitExternal)
            return cudaSuccess;
        stream->capture->broken = true;
        return refused(capture ? cudaErrorStreamCaptureMerge : cudaErrorStreamCaptureIsolation);
    }
    if (!capture)
        return cudaSuccess;
    if (!stream->capture)
        join(stream, capture);
    stream->captured++;
    if (event->captured > event->stream->joined)
        event->stream->joined = event->captured;
    return cudaSuccess;
}

/* ---- Captures ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, enum cudaStreamCaptureMode wanted) {
    static unsigned long long last_id;
    if ((uintptr_t)handle < 2) /* the legacy stream */
        return refused(cudaErrorStreamCaptureUnsupported);
    if (handle->capture)
        return refused(cudaErrorIllegalState);
    struct capture *capture = calloc(1, sizeof *capture);
    capture->mode = wanted;
    capture->thread = pthread_self();
    join(handle, capture);
    handle->origin = true;
    pthread_mutex_lock(&mutex);
    capture->id = ++last_id;
    capture->next = captures;
    __atomic_store_n(&captures, capture, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&mutex);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    struct capture *capture = stream_of(stream)->capture;
    *graph = NULL;
    if (!capture)
        return refused(cudaErrorIllegalState);
    if (!stream->origin)
        return refused(cudaErrorStreamCaptureUnmatched);
    if (capture->mode != cudaStreamCaptureModeRelaxed && !pthread_equal(capture->thread, pthread_self()))
        return refused(cudaErrorStreamCaptureWrongThread);
    cudaError_t error = capture->broken ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    for (cudaStream_t each = capture->streams; each; each = each->next) {
        if (!error && !each->origin && each->joined < each->captured)
            error = cudaErrorStreamCaptureUnjoined;
        each->capture = NULL;
    }
    stream->origin = false;
    capture->streams = NULL;
    capture->over = true;
    if (error)
        return refused(error);
    *graph = calloc(1, sizeof **graph);
    for (int i = 0; i < WORK_COUNT; i++)
        (*graph)->work[i] = capture->work[i];
    count(COUNT_captures);
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, enum cudaStreamCaptureStatus *status) {
    struct capture *capture = stream_of(handle)->capture;
    *status = !capture          ? cudaStreamCaptureStatusNone
              : capture->broken ? cudaStreamCaptureStatusInvalidated
                                : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status,
                                     unsigned long long *id, cudaGraph_t *graph, const cudaGraphNode_t **needs,
                                     const cudaGraphEdgeData **edges, size_t *count) {
    struct capture *capture = stream_of(stream)->capture;
    if (graph)
        *graph = NULL;
    if (count)
        *count = 0;
    if (id)
        *id = capture ? capture->id : 0;
    return cudaStreamIsCapturing(stream, status);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *exchanged) {
    enum cudaStreamCaptureMode before = mode;
    mode = *exchanged;
    *exchanged = before;
    return cudaSuccess;
}

/* ---- Graphs ---- */

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *list, size_t *number) {
    if (list)
        return failed(cudaErrorNotSupported);
    *number = nodes(graph->work);
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags) {
    cudaError_t error = unsafe();
    if (error)
        return error;
    *out = calloc(1, sizeof **out);
    for (int i = 0; i < WORK_COUNT; i++)
        (*out)->work[i] = graph->work[i];
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags) {
    return cudaGraphInstantiateWithFlags(out, graph, flags);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    bool captured;
    cudaError_t error = enqueue(stream, OTHER, &captured);
    if (error || captured)
        return error;
    count(COUNT_graph_launches);
    count_many(COUNT_graph_kernels, graph->work[KERNEL]);
    count_many(COUNT_graph_copies, graph->work[COPY]);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    free(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    free(graph);
    return cudaSuccess;
}

/* PyTorch ties what a graph uses to it; here graphs hold nothing. */

cudaError_t cudaUserObjectCreate(cudaUserObject_t *out, void *pointer, cudaHostFn_t destroy, unsigned references,
                                 unsigned flags) {
    *out = NULL;
    return cudaSuccess;
}

cudaError_t cudaUserObjectRelease(cudaUserObject_t object, unsigned count) {
    return cudaSuccess;
}

cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned count, unsigned flags) {
    return cudaSuccess;
}
