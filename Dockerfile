# a2mim with everything that it needs; the default command is the quick start.
#
#   docker build -t a2mim .                                  CPU
#   docker build -t a2mim --build-arg TORCH=cu130 .          NVIDIA GPU: any index of PyTorch's wheels
#   docker run --rm -v "$PWD:/work" a2mim                    writes work_dirs/quickstart
#   docker run --rm --gpus all --shm-size 8g -v "$PWD:/work" a2mim a2mim doctor
FROM python:3.12-slim

# Libraries that the wheel of opencv-python opens.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

ARG TORCH=cpu
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/${TORCH} \
    PIP_NO_CACHE_DIR=1

WORKDIR /package
# A layer of its own, which a change of the package leaves as it is.
COPY requirements.txt constraints.txt ./
RUN pip install --requirement requirements.txt --constraint constraints.txt
COPY . .
RUN pip install --constraint constraints.txt .

WORKDIR /work
CMD ["a2mim", "quickstart"]
