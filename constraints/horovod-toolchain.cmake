# Horovod 0.28.1 pins C++14 for its torch extension; torch >= 2.1 needs C++17. CMake includes the file named here
# after each project() call, late enough to overrule the compile option that C++14 stands for.
set(CMAKE_PROJECT_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/horovod-cxx17.cmake")
