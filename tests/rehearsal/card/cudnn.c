/* cuDNN as far as PyTorch's convolutions call it: the descriptors of its backend, a choice of engines that always has
 * one, plans that are executed as one launch each. Numbers are those of the enumerations in cudnn_graph.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <library_types.h>

#include "card.h"

#define SUCCESS 0
#define EXECUTION_FAILED 5000

/* Descriptors */
#define FORWARD 10
#define BACKWARD_FILTER 11
#define BACKWARD_DATA 12

/* Attributes */
#define HEURISTIC_RESULTS 202
#define PLAN_WORKSPACE 402
#define TENSOR_TYPE 901
#define ENGINE_INDEX 1301

/* Types of attributes */
#define IS_INT64 3
#define IS_DESCRIPTOR 15

/* What a descriptor was made of it knows: a plan its engine, that its graph, that its operation, that its tensors. */
struct descriptor {
    int kind, operation, type;
};

struct handle {
    cudaStream_t stream;
};

size_t null_card_cudnn_version;

size_t cudnnGetVersion(void) {
    return null_card_cudnn_version;
}

int cudnnGetProperty(libraryPropertyType which, int *value) {
    int version = null_card_cudnn_version;
    *value = which == MAJOR_VERSION ? version / 10000 : which == MINOR_VERSION ? version / 100 % 100 : version % 100;
    return SUCCESS;
}

size_t cudnnGetCudartVersion(void) {
    return CUDART_VERSION;
}

int cudnnCreate(struct handle **out) {
    *out = calloc(1, sizeof **out);
    return SUCCESS;
}

int cudnnDestroy(struct handle *handle) {
    free(handle);
    return SUCCESS;
}

int cudnnSetStream(struct handle *handle, cudaStream_t stream) {
    handle->stream = stream;
    return SUCCESS;
}

int cudnnGetStream(struct handle *handle, cudaStream_t *stream) {
    *stream = handle->stream;
    return SUCCESS;
}

int cudnnBackendCreateDescriptor(int kind, struct descriptor **out) {
    *out = calloc(1, sizeof **out);
    (*out)->kind = kind;
    (*out)->type = -1;
    if (kind >= FORWARD && kind <= BACKWARD_DATA)
        (*out)->operation = kind;
    return SUCCESS;
}

int cudnnBackendDestroyDescriptor(struct descriptor *descriptor) {
    free(descriptor);
    return SUCCESS;
}

int cudnnBackendFinalize(struct descriptor *descriptor) {
    return SUCCESS;
}

static void learn(struct descriptor *descriptor, const struct descriptor *part) {
    if (part->operation)
        descriptor->operation = part->operation;
    if (part->type >= 0)
        descriptor->type = part->type;
}

int cudnnBackendSetAttribute(struct descriptor *descriptor, int name, int type, int64_t number, const void *values) {
    if (type == IS_DESCRIPTOR)
        for (int64_t i = 0; i < number; i++)
            learn(descriptor, ((struct descriptor *const *)values)[i]);
    if (name == TENSOR_TYPE) {
        int of_cudnn = *(const int *)values;
        descriptor->type = of_cudnn == 0   ? CUDA_R_32F
                           : of_cudnn == 1 ? CUDA_R_64F
                           : of_cudnn == 2 ? CUDA_R_16F
                           : of_cudnn == 9 ? CUDA_R_16BF
                                           : -1;
    }
    return SUCCESS;
}

int cudnnBackendGetAttribute(struct descriptor *descriptor, int name, int type, int64_t wanted, int64_t *number,
                             void *values) {
    int64_t found = name == HEURISTIC_RESULTS || name == PLAN_WORKSPACE || name == ENGINE_INDEX;
    if (number)
        *number = found;
    if (!found || wanted < 1 || !values)
        return SUCCESS;
    if (name == HEURISTIC_RESULTS)
        learn(*(struct descriptor **)values, descriptor);
    else
        *(int64_t *)values = 0;
    return SUCCESS;
}

int cudnnBackendExecute(struct handle *handle, struct descriptor *plan, struct descriptor *arguments) {
    const char *name = plan->operation == BACKWARD_FILTER ? "convolution: gradient of the weight"
                       : plan->operation == BACKWARD_DATA ? "convolution: gradient of the input"
                                                          : "convolution";
    return launch_product(name, plan->type, handle->stream) ? EXECUTION_FAILED : SUCCESS;
}

const char *cudnnGetErrorString(int status) {
    return status ? "CUDNN_STATUS_EXECUTION_FAILED of the null card" : "CUDNN_STATUS_SUCCESS";
}
