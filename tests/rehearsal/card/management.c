/* The management library (NVML), which Ray and torch.cuda.device_count() ask for cards: it counts one whatever the
 * driver's age and CUDA_VISIBLE_DEVICES. PyTorch looks up the last three at its first out-of-memory.
 */
#include <stdio.h>

#include "card.h"

#define SUCCESS 0
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3

int nvmlInit_v2(void) {
    return SUCCESS;
}

int nvmlInit(void) {
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    return SUCCESS;
}

int nvmlShutdown(void) {
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *number) {
    *number = 1;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = &settings;
    return index ? INVALID_ARGUMENT : SUCCESS;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device) {
    *device = &settings;
    return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *text, unsigned size) {
    snprintf(text, size, "%s", settings.name);
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
    snprintf(text, size, "GPU-00000000-0000-0000-0000-000000000000");
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses(void *device, unsigned *number, void *processes) {
    *number = 0;
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = settings.driver;
    return SUCCESS;
}

int nvmlDeviceGetNvLinkRemoteDeviceType(void *device, unsigned link, int *type) {
    return NOT_SUPPORTED;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *device, unsigned link, void *found) {
    return NOT_SUPPORTED;
}

int nvmlDeviceGetGpuFabricInfoV(void *device, void *found) {
    return NOT_SUPPORTED;
}
