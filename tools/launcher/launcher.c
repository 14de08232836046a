/* bin/kumiki where the runtime travels with the program: it starts ../lib/runtime/kumiki under the dynamic loader that
 * lies there, so that no library of the system is needed. In: the arguments, the environment. Out: the program runs in
 * this process with its arguments; exit code 6 if it cannot be loaded.
 *
 * The loader is not executed but mapped and jumped to, with the stack that the kernel would have made ("The loader is
 * run as a program", ld.so(8)). So /proc/self/exe stays bin/kumiki, by which the program finds its plugins, the process
 * has its name in lists, and it works where one emulated program cannot start another. A file of its own, without a C
 * library: a C library would have registered this thread with the kernel before the program's own does. */
#define _GNU_SOURCE /* AT_FDCWD, O_CLOEXEC, MAP_ANONYMOUS */
#include <elf.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { kPathMax = 4096, kHeaderBytes = 1024, kExitSystem = 6 };
static const char kRuntime[] = "/lib/runtime";
static const char kLoader[] = "/ld-linux-aarch64.so.1";
static const char kProgram[] = "/kumiki";

struct image {
  uintptr_t base, entry, headers, header_count;
};

/* A system call; a negative result is -errno. */
static long call(long number, long a, long b, long c, long d, long e, long f) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
  return x0;
}

static size_t length(const char* text) {
  size_t n = 0;
  while (text[n]) n++;
  return n;
}

static void say(const char* text) { call(SYS_write, 2, (long)text, (long)length(text), 0, 0, 0); }

static _Noreturn void fail(const char* what, const char* path) {
  say("kumiki: ");
  say(what);
  say(path);
  say("; unpack the whole tar, and leave bin and lib side by side\n");
  for (;;) call(SYS_exit_group, kExitSystem, 0, 0, 0, 0, 0);
}

/* Appends `more` to `text` of kPathMax bytes. */
static void append(char* text, const char* more) {
  const size_t at = length(text), n = length(more);
  if (at + n >= kPathMax) fail("the path is too long: ", text);
  for (size_t i = 0; i <= n; i++) text[at + i] = more[i];
}

/* The folder above that of this program. */
static void find_root(char* root) {
  long end = call(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)root, kPathMax, 0, 0);
  if (end <= 0 || end == kPathMax) fail("cannot read ", "/proc/self/exe");
  for (int level = 0; level < 2; level++) {
    do end--;
    while (end > 0 && root[end] != '/');
  }
  root[end] = 0;
}

static long map(uintptr_t at, size_t bytes, int protection, int flags, int file, size_t offset) {
  return call(SYS_mmap, (long)at, (long)bytes, protection, MAP_PRIVATE | flags, file, (long)offset);
}

/* One PT_LOAD of the file into its place in the reserved range. */
static int map_segment(const Elf64_Phdr* segment, uintptr_t base, int file, uintptr_t page) {
  const int protection = (segment->p_flags & PF_R ? PROT_READ : 0) | (segment->p_flags & PF_W ? PROT_WRITE : 0) |
                         (segment->p_flags & PF_X ? PROT_EXEC : 0);
  const uintptr_t in_page = segment->p_vaddr & (page - 1);
  const uintptr_t start = base + segment->p_vaddr - in_page;
  const uintptr_t file_end = base + segment->p_vaddr + segment->p_filesz;
  const uintptr_t end = base + segment->p_vaddr + segment->p_memsz;
  const uintptr_t file_pages_end = (file_end + page - 1) & ~(page - 1);
  if (map(start, file_end - start, protection, MAP_FIXED, file, segment->p_offset - in_page) < 0) return -1;
  if (end > file_end) {
    for (volatile char* zero = (volatile char*)file_end; zero < (char*)file_pages_end; zero++) *zero = 0;
  }
  if (end > file_pages_end &&
      map(file_pages_end, end - file_pages_end, protection, MAP_FIXED | MAP_ANONYMOUS, -1, 0) < 0)
    return -1;
  return 0;
}

/* The loader's segments in memory, as the kernel would map them. */
static struct image map_loader(const char* path, uintptr_t page) {
  _Alignas(16) unsigned char head[kHeaderBytes];
  const Elf64_Ehdr* elf = (const Elf64_Ehdr*)head;
  const int file = (int)call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
  if (file < 0) fail("cannot open ", path);
  const long got = call(SYS_read, file, (long)head, kHeaderBytes, 0, 0, 0);
  if (got < (long)sizeof *elf || *(const uint32_t*)head != 0x464c457f || elf->e_machine != EM_AARCH64 ||
      elf->e_phoff + elf->e_phnum * sizeof(Elf64_Phdr) > (size_t)got)
    fail("no loader for aarch64: ", path);
  const Elf64_Phdr* segments = (const Elf64_Phdr*)(head + elf->e_phoff);
  uintptr_t end = 0, align = page;
  for (int i = 0; i < elf->e_phnum; i++) {
    if (segments[i].p_type != PT_LOAD) continue;
    if (segments[i].p_vaddr + segments[i].p_memsz > end) end = segments[i].p_vaddr + segments[i].p_memsz;
    if (segments[i].p_align > align) align = segments[i].p_align;
  }
  const long reserved = map(0, end + align, PROT_NONE, MAP_ANONYMOUS, -1, 0);
  if (reserved < 0) fail("no memory for ", path);
  const uintptr_t base = ((uintptr_t)reserved + align - 1) & ~(align - 1);
  for (int i = 0; i < elf->e_phnum; i++) {
    if (segments[i].p_type == PT_LOAD && map_segment(&segments[i], base, file, page)) fail("cannot map ", path);
  }
  call(SYS_close, file, 0, 0, 0, 0, 0);
  return (struct image){base, base + elf->e_entry, base + elf->e_phoff, elf->e_phnum};
}

/* The value of LD_LIBRARY_PATH, or NULL: ld.so drops it where it is given --library-path. */
static const char* library_path_of(char** environment) {
  static const char kName[] = "LD_LIBRARY_PATH=";
  for (; *environment; environment++) {
    size_t i = 0;
    while (kName[i] && (*environment)[i] == kName[i]) i++;
    if (!kName[i] && (*environment)[i]) return *environment + i;
  }
  return NULL;
}

/* `stack` is what the kernel left at the program's start: argc, argv, NULL, environment, NULL, auxiliary vector. */
__attribute__((used)) _Noreturn void launch(uintptr_t* stack) {
  const size_t argc = stack[0];
  char** argv = (char**)(stack + 1);
  char** environment = argv + argc + 1;
  size_t variables = 0, facts = 0;
  while (environment[variables]) variables++;
  Elf64_auxv_t* vector = (Elf64_auxv_t*)(environment + variables + 1);
  uintptr_t page = 4096;
  for (; vector[facts].a_type != AT_NULL; facts++) {
    if (vector[facts].a_type == AT_PAGESZ) page = vector[facts].a_un.a_val;
  }

  /* Static: they live as long as the program does. */
  static char runtime[kPathMax], loader[kPathMax], program[kPathMax];
  find_root(runtime);
  append(runtime, kRuntime);
  append(loader, runtime);
  append(loader, kLoader);
  append(program, runtime);
  append(program, kProgram);
  const char* more = library_path_of(environment);
  char* path = __builtin_alloca(kPathMax + 1 + (more ? length(more) : 0) + 1);
  size_t at = 0;
  for (const char* from = runtime; *from;) path[at++] = *from++;
  if (more) path[at++] = ':';
  while (more && *more) path[at++] = *more++;
  path[at] = 0;
  const struct image image = map_loader(loader, page);

  const char* const before[] = {loader, "--library-path", path, "--argv0", argc ? argv[0] : "kumiki", program};
  const size_t count = sizeof before / sizeof *before, rest = argc > 1 ? argc - 1 : 0;
  const size_t words = 1 + count + rest + 1 + variables + 1 + 2 * (facts + 1);
  uintptr_t* fresh = __builtin_alloca((words + 2) * sizeof *fresh);
  fresh = (uintptr_t*)(((uintptr_t)fresh + 15) & ~(uintptr_t)15); /* the stack pointer's alignment */
  uintptr_t* to = fresh;
  *to++ = count + rest;
  for (size_t i = 0; i < count; i++) *to++ = (uintptr_t)before[i];
  for (size_t i = 0; i < rest; i++) *to++ = (uintptr_t)argv[1 + i];
  *to++ = 0;
  for (size_t i = 0; i <= variables; i++) *to++ = (uintptr_t)environment[i];
  for (size_t i = 0; i <= facts; i++) {
    uintptr_t value = vector[i].a_un.a_val;
    switch (vector[i].a_type) {
      case AT_PHDR: value = image.headers; break;
      case AT_PHNUM: value = image.header_count; break;
      case AT_ENTRY: value = image.entry; break;
      case AT_BASE: value = 0; break; /* no interpreter: the loader is the program */
    }
    *to++ = vector[i].a_type;
    *to++ = value;
  }
  register uintptr_t entry __asm__("x16") = image.entry;
  register uintptr_t sp __asm__("x17") = (uintptr_t)fresh;
  __asm__ volatile("mov sp, x17\n\tmov x0, #0\n\tmov x29, #0\n\tmov x30, #0\n\tbr x16"
                   :
                   : "r"(entry), "r"(sp)
                   : "memory");
  __builtin_unreachable();
}

__asm__(
    ".globl _start\n"
    ".type _start, %function\n"
    "_start:\n"
    "  mov x29, #0\n"
    "  mov x30, #0\n"
    "  mov x0, sp\n"
    "  b launch\n");
