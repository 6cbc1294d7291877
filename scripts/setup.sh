# Sourced by quickstart and test: installs what a build needs and says where it lies.
# Sets ATTAR_LIBTORCH (the wheel's torch folder) and, with setup_python, ATTAR_PYTHON.
# Everything private lies below ATTAR_HOME (default ~/.cache/attar), so that a second checkout finds it again.

ATTAR_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
ATTAR_HOME="${ATTAR_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/attar}"
TORCH_VERSION=2.11.0

SYSTEM_PACKAGES=(
  g++ cmake ninja-build ccache mold pkg-config git ca-certificates python3 python3-venv python3-dev
  libsentencepiece-dev libhdf5-dev libboost-program-options-dev libyaml-cpp-dev nlohmann-json3-dev
  libspdlog-dev libfmt-dev libprotozero-dev libzstd-dev libssl-dev libcurl4-openssl-dev libpcre2-dev libutf8proc-dev libsqlite3-dev
  libgtest-dev libgmock-dev libbenchmark-dev libgloo-dev libjs-chart.js patchelf
)

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Debian 12 (and, untested, Ubuntu 24.04): installs as root or through sudo, else lists what is missing and stops.
setup_system() {
  local missing=() package
  for package in "${SYSTEM_PACKAGES[@]}" "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  command -v apt-get >/dev/null || die "this is not Debian or Ubuntu; install by hand what these packages hold: ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "packages are missing and there is neither root nor sudo: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${#missing[@]} system packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -q >&2
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" >&2 ||
    die "apt-get could not install: ${missing[*]}"
}

# A folder is marked when its last install step ended, so that an interrupted one is done again.
_venv() {  # NAME KEY -> creates ATTAR_HOME/NAME unless it is complete for KEY; then runs the installer named by the rest
  local folder="$ATTAR_HOME/$1" key="$2"; shift 2
  [ "$(cat "$folder/.complete" 2>/dev/null)" = "$key" ] && return 0
  mkdir -p "$ATTAR_HOME"
  exec 9>"$ATTAR_HOME/lock"; flock 9
  if [ "$(cat "$folder/.complete" 2>/dev/null)" != "$key" ]; then
    [ -x "$folder/bin/python" ] || python3 -m venv "$folder" || die "python3 -m venv failed; is python3-venv installed?"
    "$@" "$folder" || die "installing into $folder failed; the lines above say why"
    printf '%s' "$key" > "$folder/.complete"
  fi
  flock -u 9
}

_torch_folder() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"] + "/torch")'; }

_install_cpu_torch() {
  say "installing LibTorch $TORCH_VERSION (small form, about 1.2 GB)"
  "$1/bin/pip" install -q --no-deps "torch==$TORCH_VERSION" >&2 &&
    "$1/bin/pip" install -q "nvidia-cuda-runtime==13.0.*" "nvidia-cuda-cupti==13.0.*" >&2
}

_install_python() {
  say "installing PyTorch $TORCH_VERSION and the packages of the parity tests (llama.cpp is compiled: about 6 minutes)"
  "$1/bin/pip" install -q --upgrade pip >&2 &&
    "$1/bin/pip" install -q "torch==$TORCH_VERSION" >&2 &&
    CMAKE_ARGS="-DLLAVA_BUILD=OFF -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache" \
    CMAKE_BUILD_PARALLEL_LEVEL="$(nproc)" \
      "$1/bin/pip" install -q -r "$ATTAR_ROOT/tests/parity/requirements.txt" >&2
}

# LibTorch for a build: the full wheel where it is there or asked for (--cuda), else the small form.
setup_libtorch() {
  if [ -n "${ATTAR_LIBTORCH:-}" ]; then
    [ -e "$ATTAR_LIBTORCH/lib/libtorch_cpu.so" ] || die "ATTAR_LIBTORCH=$ATTAR_LIBTORCH holds no lib/libtorch_cpu.so"
  elif [ -e "$ATTAR_HOME/python/.complete" ]; then
    ATTAR_LIBTORCH="$(_torch_folder "$ATTAR_HOME/python")"
  elif [ "${1:-}" = --cuda ] || [ -e /dev/nvidiactl ]; then
    setup_python
  else
    _venv torch-cpu "$TORCH_VERSION" _install_cpu_torch
    ATTAR_LIBTORCH="$(_torch_folder "$ATTAR_HOME/torch-cpu")"
  fi
  export ATTAR_LIBTORCH
}

# The full wheel and the judges: transformers, llama.cpp, ONNX Runtime and the rest.
setup_python() {
  _venv python "$TORCH_VERSION $(sha256sum < "$ATTAR_ROOT/tests/parity/requirements.txt" | cut -c1-16)" _install_python
  export ATTAR_PYTHON="$ATTAR_HOME/python/bin/python"
  ATTAR_LIBTORCH="$(_torch_folder "$ATTAR_HOME/python")"
  export ATTAR_LIBTORCH
}

# A CUDA compiler: the machine's toolkit, or PyPI's packages (compile only; no GPU needed).
_install_nvcc() {
  say "installing a CUDA compiler (271 MB)"
  "$1/bin/pip" install -q "nvidia-cuda-nvcc==13.0.*" "nvidia-nvvm==13.0.*" "nvidia-cuda-crt==13.0.*" \
    "nvidia-cuda-runtime==13.0.*" "nvidia-cuda-cccl==13.0.*" >&2
}
setup_nvcc() {
  if command -v nvcc >/dev/null; then ATTAR_NVCC="$(command -v nvcc)"
  else
    _venv nvcc 13.0 _install_nvcc
    ATTAR_NVCC="$(find "$ATTAR_HOME/nvcc" -type f -name nvcc -path '*bin*' | head -n 1)"
    [ -n "$ATTAR_NVCC" ] || die "the CUDA compiler's packages hold no nvcc"
  fi
  export ATTAR_NVCC
}

# build_attar PRESET [cmake options]: configures and builds into build/PRESET.
build_attar() {
  local preset="$1"; shift
  say "building ($preset)"
  (cd "$ATTAR_ROOT" && cmake --preset "$preset" "$@" > "build-$preset.log" 2>&1) || { tail -n 30 "$ATTAR_ROOT/build-$preset.log" >&2; die "cmake failed"; }
  rm -f "$ATTAR_ROOT/build-$preset.log"
  cmake --build "$ATTAR_ROOT/build/$preset" -j "${ATTAR_JOBS:-2}" >&2 || die "the build failed; the lines above say where"
  touch "$ATTAR_ROOT/build/$preset/bin/.built"
}
