/* A driver library that answers from the file named by FAKE_NVML: the calls, structures and status codes are NVML's.
 *
 * A line is "G uuid pci-bus memory compute graphics" for a GPU, or "M uuid - memory compute graphics" for a MIG
 * slice of the GPU above. memory: MiB in use; compute: none or pid,pid; graphics: none or pid:MiB,pid:MiB.
 * "-" is an answer that the driver refuses. "init N" or "count N" alone: what this call returns. Built with -DOLD it
 * has only the functions of a driver of 2020. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID = 2, NO_PERMISSION = 4, NOT_FOUND = 6, TOO_SMALL = 7 };
typedef struct { char kind, uuid[96], bus[16], memory[32], compute[4096], graphics[4096]; int parent; } Entry;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char name[32]; } Pci;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory2;
typedef struct { unsigned pid; unsigned long long memory; unsigned instance, compute; } Process;
typedef struct { unsigned pid; unsigned long long memory; } OldProcess;

static Entry entries[64];
static int entry_count, init_status, count_status;

int nvmlInit_v2(void) {
    FILE *file = fopen(getenv("FAKE_NVML"), "r");
    char line[9000];
    int last = -1;
    entry_count = init_status = count_status = 0;
    while (file && fgets(line, sizeof line, file)) {
        Entry *e = &entries[entry_count];
        if (sscanf(line, "init %d", &init_status) == 1 || sscanf(line, "count %d", &count_status) == 1) continue;
        if (sscanf(line, "%c %95s %15s %31s %4095s %4095s", &e->kind, e->uuid, e->bus, e->memory, e->compute, e->graphics) != 6) continue;
        if (e->kind == 'G') last = entry_count;
        e->parent = last;
        entry_count++;
    }
    if (file) fclose(file);
    return init_status;
}

int nvmlShutdown(void) { return SUCCESS; }

static Entry *nth(int parent, char kind, unsigned index) {
    for (int i = 0; i < entry_count; i++)
        if (entries[i].kind == kind && (kind == 'G' || entries[i].parent == parent) && index-- == 0) return &entries[i];
    return NULL;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    for (*count = 0; nth(0, 'G', *count); ++*count) {}
    return count_status;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Entry **handle) { return (*handle = nth(0, 'G', index)) ? SUCCESS : INVALID; }

int nvmlDeviceGetUUID(Entry *e, char *text, unsigned size) { return snprintf(text, size, "%s", e->uuid) < (int)size ? SUCCESS : TOO_SMALL; }

int nvmlDeviceGetPciInfo_v3(Entry *e, Pci *info) {
    memset(info, 0, sizeof *info);
    info->bus = strtoul(e->bus, NULL, 16);
    return e->bus[0] == '-' ? NO_PERMISSION : SUCCESS;
}

static unsigned slices(Entry *e) {
    unsigned count = 0;
    while (nth(e - entries, 'M', count)) count++;
    return count;
}

int nvmlDeviceGetMigMode(Entry *e, unsigned *now, unsigned *later) { *now = *later = slices(e) > 0; return SUCCESS; }

int nvmlDeviceGetMaxMigDeviceCount(Entry *e, unsigned *count) { *count = 7; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(Entry *e, unsigned index, Entry **handle) {
    return (*handle = nth(e - entries, 'M', index)) ? SUCCESS : NOT_FOUND;
}

int nvmlDeviceGetMemoryInfo(Entry *e, Memory *info) {
    info->used = strtoull(e->memory, NULL, 10) << 20;
    return e->memory[0] == '-' ? NO_PERMISSION : SUCCESS;
}

/* "12,13" or "12:300,13:20" */
static int list(char *text, unsigned *count, unsigned *pids, unsigned long long *bytes) {
    unsigned found = 0;
    if (text[0] == '-') return NO_PERMISSION;
    for (char *at = text; strcmp(text, "none") && at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL, found++) {
        if (found >= 1024) break;
        char *after;
        pids[found] = strtoul(at, &after, 10);
        bytes[found] = *after == ':' ? strtoull(after + 1, NULL, 10) << 20 : ~0ull;
    }
    unsigned room = *count;
    *count = found;
    return found > room ? TOO_SMALL : SUCCESS;
}

#define PROCESSES(name, type, field)                                          \
    int name(Entry *e, unsigned *count, type *out) {                          \
        static unsigned pids[1024];                                           \
        static unsigned long long bytes[1024];                                \
        int status = list(e->field, count, pids, bytes);                      \
        for (unsigned i = 0; status == SUCCESS && i < *count; i++) {          \
            out[i].pid = pids[i];                                             \
            out[i].memory = bytes[i];                                         \
        }                                                                     \
        return status;                                                        \
    }

#ifdef OLD
PROCESSES(nvmlDeviceGetComputeRunningProcesses, OldProcess, compute)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, OldProcess, graphics)
#else
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, Process, compute)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, Process, graphics)

int nvmlDeviceGetMemoryInfo_v2(Entry *e, Memory2 *info) {
    if (info->version != (sizeof(Memory2) | 2u << 24)) return 25; /* NVML_ERROR_ARGUMENT_VERSION_MISMATCH */
    info->used = strtoull(e->memory, NULL, 10) << 20;
    info->reserved = 600ull << 20;
    return e->memory[0] == '-' ? NO_PERMISSION : SUCCESS;
}
#endif
