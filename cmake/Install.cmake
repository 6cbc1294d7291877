# cmake --install FOLDER --prefix DIR: a folder that can be moved to another machine. bin/ and lib/ find each other ($ORIGIN); LibTorch is
# found by ATTAR_LIBTORCH. Programs are installed by Bundle.cmake, since the build tree's run paths name folders of this machine.
install(CODE "set(ATTAR_BUILD_FOLDER \"${CMAKE_BINARY_DIR}\")\nset(ATTAR_STRIP \"${CMAKE_STRIP}\")\n")
install(SCRIPT ${CMAKE_CURRENT_LIST_DIR}/Bundle.cmake)
install(DIRECTORY recipes configs docs DESTINATION share/attar PATTERN "__pycache__" EXCLUDE)
install(DIRECTORY data/support_tickets DESTINATION share/attar/data PATTERN "__pycache__" EXCLUDE)
install(FILES LICENSE DESTINATION share/attar)
install(FILES README.md DESTINATION share/attar OPTIONAL)
