#include "formats/shard.h"

#include <hdf5.h>

#include <algorithm>
#include <mutex>

#include "base/check.h"
#include "base/hash.h"
#include "formats/cursor.h"

namespace attar {
namespace {

// libhdf5 keeps one state for the whole process; Debian's build is not made for threads.
std::mutex& hdf5_mutex() {
  static std::mutex mutex;
  return mutex;
}

constexpr int64_t kLeastDeflated = 1024;           // bytes; below, a chunk's index is larger than what is saved
constexpr uint64_t kChunkBytes = uint64_t{1} << 20;
constexpr uint64_t kMostInflated = 1032;           // bytes that one byte of deflate can stand for (zlib's technical notes)

// An HDF5 handle with the function that closes it.
class Hdf5Handle {
 public:
  Hdf5Handle(hid_t id, herr_t (*close)(hid_t), const std::string& what) : id_(id), close_(close) {
    if (id_ < 0) fail(what, "HDF5 to do its work", "a failure");
  }
  ~Hdf5Handle() { close_(id_); }
  Hdf5Handle(const Hdf5Handle&) = delete;
  Hdf5Handle& operator=(const Hdf5Handle&) = delete;
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

void hdf5_done(herr_t result, const std::string& what) {
  if (result < 0) fail(what, "HDF5 to do its work", "a failure");
}

// Half precision is no predefined type: made from float32's, as h5py makes it, so that h5py reads float16.
hid_t hdf5_half() {
  const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
  if (type < 0) return type;
  if (H5Tset_fields(type, 15, 10, 5, 0, 10) < 0 || H5Tset_size(type, 2) < 0 || H5Tset_ebias(type, 15) < 0) {
    H5Tclose(type);
    return -1;
  }
  return type;
}

struct ShardDtype {
  const char* name;
  int64_t bytes;
};
constexpr ShardDtype kShardDtypes[] = {{"u8", 1}, {"u16", 2}, {"i32", 4}, {"i64", 8}, {"f16", 2}, {"f32", 4}};

hid_t hdf5_type(const std::string& dtype) {
  if (dtype == "u8") return H5Tcopy(H5T_STD_U8LE);
  if (dtype == "u16") return H5Tcopy(H5T_STD_U16LE);
  if (dtype == "i32") return H5Tcopy(H5T_STD_I32LE);
  if (dtype == "i64") return H5Tcopy(H5T_STD_I64LE);
  if (dtype == "f16") return hdf5_half();
  return H5Tcopy(H5T_IEEE_F32LE);
}

int64_t shard_bytes(const std::string& dtype, const std::vector<int64_t>& shape, const std::string& where) {
  int64_t item = 0;
  for (const auto& row : kShardDtypes)
    if (dtype == row.name) item = row.bytes;
  if (item == 0) fail(where + ": dtype", "u8, u16, i32, i64, f16 or f32", "'" + shown(dtype) + "'");
  const auto elements = shape_product(shape);
  int64_t size = 0;
  if (!elements || shape.size() > H5S_MAX_RANK || __builtin_mul_overflow(*elements, item, &size))
    fail(where + ": shape", "at most 32 sizes and below 2^63 bytes", shown(shape_words(shape)));
  return size;
}

void hdf5_put_attribute(hid_t file, const std::string& key, const std::string& value, const std::string& where) {
  if (key.empty() || key.find('\0') != std::string::npos || value.size() > 60000)
    fail(where + ": attribute '" + shown(key) + "'", "a name, and text of at most 60000 bytes", str(value.size(), " bytes"));
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose, where);
  hdf5_done(H5Tset_size(type, std::max<size_t>(value.size(), 1)), where);  // HDF5 knows no text of no bytes
  hdf5_done(H5Tset_strpad(type, H5T_STR_NULLPAD), where);
  hdf5_done(H5Tset_cset(type, H5T_CSET_UTF8), where);
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose, where);
  const Hdf5Handle attribute(H5Acreate2(file, key.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose, where);
  hdf5_done(H5Awrite(attribute, type, value.c_str()), where);
}

Hdf5Handle hdf5_space(const std::vector<int64_t>& shape, const std::string& where) {
  const std::vector<hsize_t> sizes(shape.begin(), shape.end());
  return {sizes.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr), H5Sclose, where};
}

void hdf5_put_array(hid_t file, const std::string& name, const ShardArray& array, const std::string& where) {
  if (name.empty() || name == "." || name.find('/') != std::string::npos || name.find('\0') != std::string::npos)
    fail(where + ": array '" + shown(name) + "'", "a name without '/'", "another");
  const auto size = shard_bytes(array.dtype, array.shape, where + ": array '" + shown(name) + "'");
  if (static_cast<uint64_t>(size) != array.bytes.size())
    fail(where + ": array '" + shown(name) + "'", str(size, " bytes, as its shape and dtype say"), str(array.bytes.size(), " bytes"));
  const Hdf5Handle type(hdf5_type(array.dtype), H5Tclose, where);
  const Hdf5Handle space = hdf5_space(array.shape, where);
  const Hdf5Handle how(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, where);
  hdf5_done(H5Pset_obj_track_times(how, false), where);  // a time stamp would make equal shards differ
  if (array.deflated && size >= kLeastDeflated) {
    std::vector<hsize_t> chunk(array.shape.begin(), array.shape.end());
    const auto row = static_cast<uint64_t>(size) / chunk[0];
    chunk[0] = std::clamp<hsize_t>(kChunkBytes / std::max<uint64_t>(row, 1), 1, chunk[0]);
    hdf5_done(H5Pset_chunk(how, static_cast<int>(chunk.size()), chunk.data()), where);
    hdf5_done(H5Pset_shuffle(how), where);
    hdf5_done(H5Pset_deflate(how, 1), where);  // what higher levels save (5%) costs three times the time
  } else {
    hdf5_done(H5Pset_layout(how, H5D_CONTIGUOUS), where);
  }
  hdf5_done(H5Pset_fill_time(how, H5D_FILL_TIME_NEVER), where);
  const Hdf5Handle set(H5Dcreate2(file, name.c_str(), type, space, H5P_DEFAULT, how, H5P_DEFAULT), H5Dclose, where);
  if (size > 0) hdf5_done(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, array.bytes.data()), where);
}

// The dtype's name of a dataset, or "" if it is none of ours.
std::string shard_dtype_of(hid_t set, const std::string& where) {
  const Hdf5Handle type(H5Dget_type(set), H5Tclose, where);
  for (const auto& row : kShardDtypes) {
    const Hdf5Handle ours(hdf5_type(row.name), H5Tclose, where);
    if (H5Tequal(type, ours) > 0) return row.name;
  }
  return "";
}

// The least room that an array's bytes take in a file.
uint64_t least_stored(uint64_t bytes, bool deflated) { return bytes / (deflated ? kMostInflated : 1); }

// Whether a dataset has the filters that ShardArray::deflated stands for, and no others.
bool is_deflated(hid_t how) {
  if (H5Pget_layout(how) != H5D_CHUNKED || H5Pget_nfilters(how) != 2) return false;
  const auto filter = [&](unsigned i) {
    unsigned flags = 0;
    size_t values = 0;
    return H5Pget_filter2(how, i, &flags, &values, nullptr, 0, nullptr, nullptr);
  };
  return filter(0) == H5Z_FILTER_SHUFFLE && filter(1) == H5Z_FILTER_DEFLATE;
}

ShardArray hdf5_get_array(hid_t file, const std::string& name, uint64_t file_size, const std::string& where) {
  const std::string what = where + ": array '" + shown(name) + "'";
  const Hdf5Handle set(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose, what);
  const Hdf5Handle how(H5Dget_create_plist(set), H5Pclose, what);
  // Anything but bytes inside this file, plain or deflated, could reach outside it or grow without bound when read.
  const bool deflated = is_deflated(how);
  if (H5Pget_external_count(how) != 0 || !(deflated || (H5Pget_layout(how) == H5D_CONTIGUOUS && H5Pget_nfilters(how) == 0)))
    fail(what, "plain, or shuffled and deflated, as attar writes it", "another layout");
  ShardArray out;
  out.deflated = deflated;
  out.dtype = shard_dtype_of(set, what);
  const Hdf5Handle space(H5Dget_space(set), H5Sclose, what);
  const int rank = H5Sget_simple_extent_ndims(space);
  const auto extent = H5Sget_simple_extent_type(space);
  if (rank < 0 || (extent != H5S_SIMPLE && extent != H5S_SCALAR)) fail(what, "an array or a single value", "another kind");
  std::vector<hsize_t> sizes(static_cast<size_t>(rank));
  if (rank > 0) hdf5_done(H5Sget_simple_extent_dims(space, sizes.data(), nullptr), what);
  for (const hsize_t size : sizes) out.shape.push_back(size > static_cast<hsize_t>(INT64_MAX) ? -1 : static_cast<int64_t>(size));
  const auto bytes = static_cast<uint64_t>(shard_bytes(out.dtype, out.shape, what));
  if (least_stored(bytes, deflated) > file_size) fail(what, "data inside the file", str(bytes, " bytes in a file of ", file_size));
  out.bytes.resize(bytes);
  const Hdf5Handle type(hdf5_type(out.dtype), H5Tclose, what);
  if (bytes > 0) hdf5_done(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out.bytes.data()), what);
  return out;
}

}  // namespace

void write_shard(const fs::path& path, const std::map<std::string, ShardArray>& arrays, const std::map<std::string, std::string>& attributes) {
  const std::string where = path.string();
  const std::lock_guard guard(hdf5_mutex());
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  // Built in memory: HDF5 has no way to say that a disk was full half-way, AtomicFile has.
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, where);
  hdf5_done(H5Pset_fapl_core(access, size_t{1} << 20, false), where);
  hdf5_done(H5Pset_file_locking(access, false, true), where);
  // The oldest format: newer ones checksum the superblock, and H5Fget_file_image clears a flag in it without a new checksum.
  hdf5_done(H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_V18), where);
  const Hdf5Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose, where);
  hdf5_done(H5Pset_obj_track_times(creation, false), where);
  std::vector<uint8_t> image;
  {
    const Hdf5Handle file(H5Fcreate("shard", H5F_ACC_TRUNC, creation, access), H5Fclose, where);
    for (const auto& [key, value] : attributes) hdf5_put_attribute(file, key, value, where);
    for (const auto& [name, array] : arrays) hdf5_put_array(file, name, array, where);
    hdf5_done(H5Fflush(file, H5F_SCOPE_GLOBAL), where);
    const ssize_t size = H5Fget_file_image(file, nullptr, 0);
    if (size <= 0) fail(where, "HDF5 to do its work", "a failure");
    image.resize(static_cast<size_t>(size));
    if (H5Fget_file_image(file, image.data(), image.size()) != size) fail(where, "HDF5 to do its work", "a failure");
  }
  AtomicFile out(path);
  out.write(image.data(), image.size());
  out.commit();
}

std::map<std::string, ShardArray> read_shard(const fs::path& path, const std::string& sha256) {
  const std::string where = path.string();
  // libhdf5 itself can crash on a damaged file, so it sees only bytes that are known to be the ones written.
  std::error_code problem;
  const uint64_t file_size = fs::file_size(path, problem);
  if (problem) fail(where, "a readable shard", problem.message(), "was the cache written to its end?");
  const std::string found = sha256_file_now(path);
  if (found != sha256) fail(where + ": SHA-256", shown(sha256), found, "the shard is damaged, cut short or another one: capture it again");
  const std::lock_guard guard(hdf5_mutex());
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, where);
  hdf5_done(H5Pset_file_locking(access, false, true), where);
  const Hdf5Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), H5Fclose, where + ": shard");
  H5G_info_t group;
  hdf5_done(H5Gget_info(file, &group), where);
  std::map<std::string, ShardArray> out;
  uint64_t total = 0;
  for (hsize_t i = 0; i < group.nlinks; ++i) {
    H5L_info_t link;
    hdf5_done(H5Lget_info_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, i, &link, H5P_DEFAULT), where);
    if (link.type != H5L_TYPE_HARD) fail(where, "arrays only", "a link", "links can leave the file");
    const ssize_t length = H5Lget_name_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, i, nullptr, 0, H5P_DEFAULT);
    if (length <= 0) fail(where, "named arrays", "one without a name");
    std::string name(static_cast<size_t>(length), '\0');
    H5Lget_name_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, i, name.data(), name.size() + 1, H5P_DEFAULT);
    const auto& array = out[name] = hdf5_get_array(file, name, file_size, where);
    // Two names of one dataset would multiply its memory.
    if ((total += least_stored(array.bytes.size(), array.deflated)) > file_size) fail(where, "arrays no larger than the file", str(total, " bytes"));
  }
  return out;
}

}  // namespace attar
