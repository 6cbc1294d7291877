#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"

struct sqlite3;
struct sqlite3_stmt;

namespace attar {

/// One SQLite file. Error in words, naming the file, where SQLite refuses.
class Database {
 public:
  /// `create`: make the file if there is none; else that is an Error.
  Database(const fs::path& file, bool create);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  void run(const std::string& sql);
  int64_t last_id() const;
  const fs::path& file() const { return file_; }
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  friend class Query;
  fs::path file_;
  sqlite3* handle_ = nullptr;
};

/// One statement with its values; they are bound, never pasted into the text.
class Query {
 public:
  Query(Database& database, const std::string& sql);
  ~Query();
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;
  Query& bind(const std::string& text);
  Query& bind(int64_t number);
  Query& bind(double number);
  bool next();                       ///< to the next row; false: there is none
  std::string text(int column) const;
  int64_t integer(int column) const;
  double number(int column) const;
  bool null(int column) const;

 private:
  Database& database_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

/// Begins a transaction; undone unless commit() was called.
class Transaction {
 public:
  explicit Transaction(Database& database) : database_(database) { database_.run("BEGIN IMMEDIATE"); }
  ~Transaction();
  void commit();

 private:
  Database& database_;
  bool done_ = false;
};

}  // namespace attar
