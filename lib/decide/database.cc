#include "decide/database.h"

#include <sqlite3.h>

#include "base/check.h"

namespace attar {
namespace {
constexpr int kWaitMilliseconds = 10'000;
}

Database::Database(const fs::path& file, bool create) : file_(file) {
  if (!create) check(fs::is_regular_file(file), file.string(), "a registry", "nothing", "attar registry add RUN_DIR makes one");
  const int flags = SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0);
  if (sqlite3_open_v2(file.c_str(), &handle_, flags, nullptr) != SQLITE_OK) {
    const std::string words = handle_ ? sqlite3_errmsg(handle_) : "no memory";
    sqlite3_close(handle_);
    handle_ = nullptr;
    fail(file.string(), "a SQLite file that can be written", words);
  }
  sqlite3_busy_timeout(handle_, kWaitMilliseconds);
}

Database::~Database() { sqlite3_close(handle_); }

void Database::refuse(const std::string& what) const { fail(file_.string(), what, sqlite3_errmsg(handle_)); }

void Database::run(const std::string& sql) {
  if (sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) refuse("a registry that can be read and written");
}

int64_t Database::last_id() const { return sqlite3_last_insert_rowid(handle_); }

Query::Query(Database& database, const std::string& sql) : database_(database) {
  if (sqlite3_prepare_v2(database_.handle_, sql.c_str(), -1, &statement_, nullptr) != SQLITE_OK) database_.refuse("the tables of a registry");
}

Query::~Query() { sqlite3_finalize(statement_); }

Query& Query::bind(const std::string& text) {
  sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
  return *this;
}

Query& Query::bind(int64_t number) {
  sqlite3_bind_int64(statement_, ++bound_, number);
  return *this;
}

Query& Query::bind(double number) {
  sqlite3_bind_double(statement_, ++bound_, number);
  return *this;
}

bool Query::next() {
  const int code = sqlite3_step(statement_);
  if (code != SQLITE_ROW && code != SQLITE_DONE) database_.refuse("a registry that can be read and written");
  return code == SQLITE_ROW;
}

std::string Query::text(int column) const {
  const auto* text = sqlite3_column_text(statement_, column);
  return text ? std::string(reinterpret_cast<const char*>(text), static_cast<size_t>(sqlite3_column_bytes(statement_, column))) : "";
}

int64_t Query::integer(int column) const { return sqlite3_column_int64(statement_, column); }
double Query::number(int column) const { return sqlite3_column_double(statement_, column); }
bool Query::null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

Transaction::~Transaction() {
  if (done_) return;
  try {
    database_.run("ROLLBACK");
  } catch (const Error&) {
    // SQLite has undone it already.
  }
}

void Transaction::commit() {
  database_.run("COMMIT");
  done_ = true;
}

}  // namespace attar
